"""Forks whose children train, with the bits that their parent gets.

    python forks.py main 300        # KINDS says what is forked from where; a line for each fork

Run as a program by test_forks.py, which ends it where it hangs.
"""

import argparse
import hashlib
import multiprocessing
import os
import sys
import threading
import warnings

import numpy as np

import fastnn as fn
from fastnn import nn, optim
from fastnn.nn import functional as F
from fastnn_ext import runtime

X, Y = fn.data.digits("train", flatten=True)


class Training:
    """A model with dropout on two threads, of whatever seed."""

    def __init__(self, dropout=0.2):
        self.model = nn.Sequential(
            nn.Linear(64, 96), nn.ReLU(), nn.Dropout(dropout), nn.Linear(96, 48), nn.Tanh(), nn.Linear(48, 10)
        )
        self.step = fn.TrainStep(self.model, nn.CrossEntropyLoss(), optim.Adam(self.model.parameters(), lr=2e-3))

    def train(self, number):
        """One step on a batch; what the model is then, and what it says of some samples."""
        rows = slice(number % 5 * 250, number % 5 * 250 + 250)
        loss = self.step(X[rows], Y[rows])
        digest = hashlib.sha256(np.float64(loss).tobytes())
        for array in self.model.state_dict().values():
            digest.update(array.tobytes())
        digest.update(self.model.evaluated(X[:100]).tobytes())
        return digest.digest()


def anew(seed):
    """A model that is made, traced and trained: what it is then."""
    fn.manual_seed(seed)
    training = Training()
    return [training.train(number) for number in range(2)]


def child_of(function):
    """Fork; the child calls `function` and sends the bytes that it returns. Returns how to receive them."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.write(writer, function())
            status = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__} in a child: {error}\n")
        finally:
            os._exit(status)
    os.close(writer)

    def receive():
        with open(reader, "rb") as file:
            sent = file.read()
        assert os.waitpid(child, 0)[1] == 0, "a child failed"
        return sent

    return receive


def from_here(training, number):
    """The child goes on as its parent does."""
    receive = child_of(lambda: training.train(number))
    assert training.train(number) == receive(), "other bits in the child"
    return 1


def main(training, number):
    return from_here(training, number)


def nested(training, number):
    """Each generation before it has trained itself, and after."""

    def grandchild():
        return training.train(number) + training.train(number + 1)

    def child():
        receive = child_of(grandchild)
        first = training.train(number)
        inner = child_of(lambda: training.train(number + 1))
        both = first + training.train(number + 1)
        assert receive() == both and inner() == both[len(first) :], "other bits in a grandchild"
        return both

    receive = child_of(child)
    assert training.train(number) + training.train(number + 1) == receive(), "other bits in the child"
    return 3


def second_thread(training, number):
    failures = []

    def work():
        try:
            from_here(training, number)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return 1


class Others:
    """Threads that train a model, and that make models and call functions: locks of all kinds are held at forks."""

    def __init__(self):
        self.training = Training(dropout=0.0)
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.train, self.make)]
        for thread in self.threads:
            thread.start()

    def train(self):
        while not self.ended.is_set():
            self.training.train(0)

    def make(self):
        while not self.ended.is_set():
            Training(dropout=0.0).train(0)
            F.relu(X[:7])


def beside_others(training, number):
    """While other threads train: the child uses what they use, which may be half of what was and half of what is."""

    def child():
        sent = training.train(number)
        others.training.train(1)
        F.relu(X[:7])
        assert anew(7) == known, "other bits of a new model"
        return sent

    receive = child_of(child)
    assert training.train(number) == receive(), "other bits in the child"
    return 1


def pool(training, number):
    """Two processes of multiprocessing, which make models of their own."""
    with multiprocessing.get_context("fork").Pool(2) as workers:
        assert workers.map(anew, [7] * 4, chunksize=1) == [known] * 4, "other bits in a pool"
    training.train(number)
    return 2


KINDS = {"main": main, "nested": nested, "thread": second_thread, "others": beside_others, "pool": pool}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which is what this is about
    fn.set_num_threads(2)
    runtime.always_share(True)
    known = anew(7)
    fn.manual_seed(3)
    subject = Training()
    subject.train(0)
    others = Others() if arguments.kind == "others" else None
    forked = 0
    while forked < arguments.count:
        forked += KINDS[arguments.kind](subject, forked)
        print(f"{arguments.kind}: {forked} forks", flush=True)
    if others is not None:
        others.ended.set()
        for thread in others.threads:
            thread.join()
