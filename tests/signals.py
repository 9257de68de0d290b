"""Ctrl-C at random times, sent as a real signal: what was under way is done as a whole or not at all, and soon.

    python signals.py step 100       # ACTIONS says what is interrupted; a line for each signal

The last line is the largest number of seconds of CPU time from a signal to its exception. Run as a program by
test_signals.py, which ends it where it hangs.
"""

import argparse
import hashlib
import os
import random
import signal
import tempfile
import threading
import time

import numpy as np

import fastnn as fn
from fastnn import nn, optim
from fastnn.nn import functional as F
from fastnn_ext import runtime

generator = np.random.default_rng(0)


class Action:
    """Steps of training, each a native call.

    What is interrupted is `act`; `digest` is of all that outlives it, and is known for 0 to `length` of them.
    """

    length = 6

    def __init__(self):
        fn.manual_seed(1)
        self.make()
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss()
        self.step = fn.TrainStep(self.model, self.loss, self.optimizer)
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "start")
        fn.save_checkpoint(self.path, self.model, self.optimizer)
        self.duration = 0.0
        self.known = self.chain()
        assert self.chain() == self.known
        self.reset()

    def make(self):
        width = 768
        self.model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))
        self.x = generator.standard_normal((512, width), dtype=np.float32)
        self.y = generator.integers(0, 10, 512)

    def act(self):
        self.step(self.x, self.y)

    def chain(self):
        self.reset()
        found = [self.digest()]
        for _ in range(self.length):
            begun = time.perf_counter()
            self.act()
            self.duration = time.perf_counter() - begun
            found.append(self.digest())
        return found

    def reset(self):
        fn.load_checkpoint(self.path, self.model, self.optimizer)

    def check(self):
        """What else must hold after a signal."""

    def digest(self):
        result = hashlib.blake2b()
        states = self.optimizer.state_dict()["state"]
        for array in (*self.model.state_dict().values(), *(a for state in states for a in state.values())):
            result.update(array.tobytes())
        return result.hexdigest() + str(fn.get_rng_state())


class Long(Action):
    """Steps that take many times as long as it may take to hear a signal."""

    length = 2

    def make(self):
        width = 1024
        self.model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 10))
        self.x = generator.standard_normal((2048, width), dtype=np.float32)
        self.y = generator.integers(0, 10, 2048)


class Images(Action):
    """Steps of a convolution network with batch norm."""

    def make(self):
        self.model = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip
        self.x = generator.standard_normal((32, 3, 32, 32), dtype=np.float32)
        self.y = generator.integers(0, 10, 32)


class Pieces(Action):
    """Steps whose gradient the caller holds. No random numbers: each forward pass draws new ones."""

    def make(self):
        width = 512
        self.model = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))
        self.x = generator.standard_normal((256, width), dtype=np.float32)
        self.y = generator.integers(0, 10, 256)

    def act(self):
        self.optimizer.zero_grad()
        for rows in (slice(0, 128), slice(128, 256)):  # gradients add up
            _, dy = self.loss.value_and_grad(self.model.forward_train(self.x[rows]), self.y[rows])
            self.model.backward(dy)
        self.optimizer.step()


class Anew(Action):
    """Traces: a program is made for each step, and depends on a value that changes with it."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30), nn.Linear(30, 10))
            self.scale = [1.0]

        def forward(self, x):
            return F.dropout(self.inner(x), 0.1) * self.scale[0]

    def make(self):
        self.model = self.Scaled()
        self.x = generator.standard_normal((50, 20), dtype=np.float32)
        self.y = generator.integers(0, 10, 50)

    def act(self):
        # By how many steps were made, so that an interrupted one is the same when it is made again.
        self.model.scale[0] = 1.0 + self.optimizer.param_groups[0].steps % 3
        self.step(self.x, self.y)

    def reset(self):
        super().reset()
        self.step = fn.TrainStep(self.model, self.loss, self.optimizer)


class Files(Anew):
    """Loading and saving: what is loaded is one of two states, what is saved a whole file."""

    def make(self):
        super().make()
        self.other = None

    def act(self):
        if self.other is None:
            self.other = os.path.join(self.folder.name, "other")
            self.step(self.x, self.y)
            fn.save_checkpoint(self.other, self.model, self.optimizer)
            self.reset()
        fn.load_checkpoint(self.other if self.digest() == self.first else self.path, self.model, self.optimizer)
        fn.save_checkpoint(os.path.join(self.folder.name, "saved"), self.model, self.optimizer)

    def check(self):
        assert set(os.listdir(self.folder.name)) <= {"start", "other", "saved"}, "a temporary file was left"
        now = self.digest()
        fn.load_checkpoint(os.path.join(self.folder.name, "saved"), self.model, self.optimizer)
        assert self.digest() in self.known, "a file that is not whole"
        fn.load_checkpoint(self.path if now == self.first else self.other, self.model, self.optimizer)
        assert self.digest() == now

    def chain(self):
        self.reset()
        self.first = self.digest()
        return super().chain()


ACTIONS = {"step": Action, "long": Long, "images": Images, "pieces": Pieces, "trace": Anew, "files": Files}


def interrupted(action, delay):
    """Act until the signal is heard, sent after a delay; CPU seconds from the one to the other."""
    sent = []

    def send():
        time.sleep(delay)
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)

    action.reset()
    sender = threading.Thread(target=send)
    done = 0
    try:
        sender.start()
        while True:
            action.act()
            done += 1
            if done == action.length:
                action.reset()
                done = 0
    except KeyboardInterrupt:
        late = time.process_time() - sent[0]
    sender.join()
    now = action.digest()
    places = (done, 0) if done == action.length else (done, done + 1)
    assert now in [action.known[place] for place in places], f"a state that is none of those after {places} actions"
    place = next(place for place in places if action.known[place] == now)
    action.check()
    if place == action.length:
        action.reset()
        place = 0
    action.act()
    assert action.digest() == action.known[place + 1], "other bits of what comes after the signal"
    return late


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("count", type=int)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fn.set_num_threads(arguments.threads)
    runtime.always_share(True)
    subject = ACTIONS[arguments.action]()
    chance = random.Random(0)
    longest = 0.0
    for number in range(arguments.count):
        longest = max(longest, interrupted(subject, chance.uniform(0, 1.5 * subject.duration)))
        print(f"{arguments.action}: {number + 1} signals", flush=True)
    print(longest)
