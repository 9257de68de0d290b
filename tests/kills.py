"""Kills of a process that saves checkpoints: the file is the old one or the new one.

    python kills.py checkpoint.safetensors 100       # a line for each kill

A process says through a pipe how far a save has come. It is killed at a random time, or where it stands still
for that: with the new file opened, written, synced, about to be renamed, or renamed. So all of these are met,
however busy the machine is. Run as a program by test_checkpoint.py.
"""

import argparse
import os
import random
import signal
import time
from collections import Counter

import fastnn as fn
from fastnn import nn, optim

STAGES = "owsrd"
#: What `os` does before each stage, and after it.
CALLS = {"open": ("", "o"), "fsync": ("w", "s"), "replace": ("r", "d")}


class Saving:
    """Saves numbers one after the other, and says so."""

    def __init__(self, path):
        self.path = path
        self.model, self.reader = nn.Linear(300, 200), nn.Linear(300, 200)
        self.optimizer = optim.Adam(self.model.parameters())

    def save(self, number):
        self.model.weight.data[...] = number
        fn.save_checkpoint(self.path, self.model, self.optimizer, step=number)

    def saved(self):
        number = fn.load_checkpoint(self.path, self.reader)["step"]
        assert (self.reader.weight.data == number).all(), f"half of save {number}"
        return number

    def run(self, number, writer, stop, saves):
        """What the child does until it is killed: at stage `stop` of save number `saves` it stands still."""
        left = [saves]

        def reach(stage):
            left[0] -= stage == stop
            if stage:
                os.write(writer, stage.encode())
            while stage == stop and left[0] == 0:
                signal.pause()

        def telling(call, before, after):
            def told(*arguments, **settings):
                reach(before)
                result = call(*arguments, **settings)
                reach(after)
                return result

            return told

        for name, stages in CALLS.items():
            setattr(os, name, telling(getattr(os, name), *stages))
        while True:
            number += 1
            self.save(number)


def kill(saving, number, chance, pause):
    """Kill a process that saves after `number`; what is saved then, and where the save was if it stood still."""
    stop, saves = chance.choice((*STAGES, None)), chance.randrange(1, 3)
    reports, writer = os.pipe()
    child = os.fork()
    if not child:
        saving.run(number, writer, stop, saves)
    os.close(writer)
    letters = ""
    wanted = chance.randrange(1, 2 * len(STAGES))
    while letters.count(stop) < saves if stop else len(letters) < wanted:
        part = os.read(reports, 1).decode()
        assert part, "the process has ended by itself"
        letters += part
    if not stop:
        assert saving.saved() >= number + letters.count("d"), "what was said to be saved is not"
        time.sleep(chance.uniform(0, pause))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while part := os.read(reports, 1000).decode():
        letters += part
    os.close(reports)
    done, now = letters.count("d"), saving.saved()
    # Renamed, and killed before it could say so; not where it stood still.
    assert now - number - done in ((0,) if stop else (0, 1)), (now, number, letters, stop)
    folder, name = os.path.split(saving.path)
    left = sorted(set(os.listdir(folder)) - {name})
    assert all(other.startswith(".fastnn-") and other.endswith(".tmp") for other in left), left
    if stop:
        assert len(left) == (stop != "d"), (left, stop)
    for other in left:
        os.unlink(os.path.join(folder, other))
    return now, stop if stop else "midway" if left else "between"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path")
    parser.add_argument("kills", type=int)
    arguments = parser.parse_args()
    fn.set_num_threads(1)
    subject = Saving(os.path.abspath(arguments.path))
    begun = time.perf_counter()
    subject.save(0)
    duration = time.perf_counter() - begun
    places, at = Counter(), 0
    generator = random.Random(0)
    for count in range(arguments.kills):
        at, place = kill(subject, at, generator, duration)
        places[place] += 1
        print(f"kill {count + 1}", flush=True)
    print(" ".join(f"{place}: {places[place]}" for place in sorted(places)), f"saves: {at}")
