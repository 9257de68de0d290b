"""Runs a program on fastnn and on its eager twin in lockstep, compares all that can be seen, and shrinks.

A program is text. Its blocks run one after the other in two namespaces, in which `fn`, `nn`, `optim` and `F`
are fastnn's or the twin's; after each block what the program showed with `see` must agree, and so must the
parameters, gradients and buffers of every module that the namespace holds.

    python -m fuzz_run --seed 0 --count 20000     # programs until one fails
    python -m fuzz_run --find --count 2000        # after how many programs each kind of fault is met
"""

import argparse
import copy
import dataclasses
import math
import os
import sys
import time
import types
import warnings
import zlib
from collections import Counter

import numpy as np

import fastnn

import eager
from eager.tensor import disturbed
from fuzz_programs import FAULTS, generate

#: How many times the change that errors of rounding make, as measured, a difference may be.
MARGIN = 64
#: How often that change is measured; the largest counts.
MEASURED = 8
#: Difference that is never allowed, relative to the largest number that is seen and to 1.
LIMIT = {"float64": 1e-8, "float32": 1e-2}
#: Numbers beyond this end a program: rounding would decide the rest of it.
LARGEST = 1e6


@dataclasses.dataclass
class Finding:
    """What went wrong: in which block, "differs" or "raises", and the details."""

    block: int
    kind: str
    message: str

    @property
    def subject(self):
        """The last part of the name of what differs; the exception."""
        name = self.message.split(" differs")[0] if self.kind == "differs" else self.message
        return name.split(".")[-1].split("\n")[0][:60]


@dataclasses.dataclass
class Outcome:
    """How a program ended: "agrees", "refused", "overflow", "invalid", or with a finding."""

    ending: str
    finding: Finding | None = None


# ---- what programs call beside fastnn -----------------------------------------------------------


def first(result):
    """The first tensor of a result."""
    if isinstance(result, dict):
        return next(iter(result.values()))
    return result[0] if isinstance(result, (tuple, list)) else result


def leaves(result):
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves(part)]
    return [result]


def labels(seed, n, ignored=False):
    """n of 4 classes; some of them are -100, but never all."""
    y = np.random.default_rng([seed, n]).integers(0, 4, n)
    if ignored:
        y[1::3] = -100
    return y


def fill(module, seed):
    """Give all parameters and buffers numbers that depend on the seed and their names alone."""
    state = {}
    for name, value in module.state_dict().items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, value.shape)
        elif value.dtype.kind == "f":
            value = rng.uniform(-0.7, 0.7, value.shape)
        state[name] = value
    module.load_state_dict(state)
    return module


class Side:
    """A namespace in which programs run: fastnn's or the twin's."""

    def __init__(self, library, dtype):
        self.library = library
        self.seen = []
        self.space = {
            "fn": library, "nn": library.nn, "optim": library.optim, "F": library.nn.functional,
            "np": np, "math": math, "copy": copy, "dataclasses": dataclasses, "SimpleNamespace": types.SimpleNamespace,
            "dtype": getattr(np, dtype), "first": first, "labels": labels, "fill": fill, "data": self.data,
            "full": self.full, "like": self.like, "see": self.see, "__name__": "program",
        }  # fmt: skip

    def data(self, seed, *shape):
        """Normal numbers of the program's dtype."""
        return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(self.space["dtype"])

    def full(self, value, size=4):
        return np.full(size, value, self.space["dtype"])

    def like(self, result, seed):
        """An array for each array of a result, to be its gradient."""
        return [self.data(seed, *np.shape(leaf)) for leaf in leaves(result)]

    def see(self, *values):
        self.seen.extend(np.array(leaf) for value in values for leaf in leaves(value))

    def run(self, code):
        """Run a block; the exception that it raised, or None."""
        self.seen.clear()
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                exec(code, self.space)
        except Exception as error:
            return error
        return None

    def state(self):
        """Everything that can be seen, by name."""
        shown = {f"see[{i}]": value for i, value in enumerate(self.seen)}
        for name, module in self.space.items():
            if isinstance(module, self.library.nn.Module):
                shown |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
                for key, p in module.named_parameters():
                    if p.requires_grad:
                        zeros = np.zeros(np.shape(p.data))
                        shown[f"{name}.{key}.grad"] = zeros if p.grad is None else np.array(p.grad)
        return shown


# ---- running ------------------------------------------------------------------------------------


class Rounding:
    """What rounding does to a program: its twin runs it again, with an error in each number that is computed.

    So a difference is held against the condition of what differs: what is well conditioned has to be right to a few
    roundings, and what a batch norm of nearly equal numbers has magnified does not.
    """

    def __init__(self, program):
        self.dtype = "float32" if program.meets_float32 else "float64"
        self.unit = float(np.finfo(self.dtype).eps) / 2
        self.codes = []
        self.sides = [(Side(eager, program.dtype), np.random.default_rng(i)) for i in range(MEASURED)]
        self.done = 0

    def change(self, name, value):
        """The largest change of what is seen under a name, by all blocks up to the one that ran last."""
        for side, generator in self.sides:
            with disturbed(generator, self.unit):
                for code in self.codes[self.done :]:
                    side.run(code)
        self.done = len(self.codes)
        return max(float(np.max(np.abs(side.state()[name] - value))) for side, _ in self.sides)

    def allows(self, error, name, value, largest):
        """Whether a value's error may come from rounding."""
        if not error <= LIMIT[self.dtype] * (1 + largest):
            return False
        room = error / MARGIN - self.unit * (1 + np.max(np.abs(value)))
        return room <= 0 or room <= self.change(name, value)


def run(program, library=fastnn):
    """An Outcome. The twin may refuse with ValueError only; anything else is a mistake in the program."""
    ours, theirs = Side(library, program.dtype), Side(eager, program.dtype)
    rounding = Rounding(program)
    for index, (text, may_refuse) in enumerate(program.blocks()):
        try:
            code = compile(text, f"<program {program.seed}, block {index}>", "exec")
        except SyntaxError as error:
            return Outcome("invalid", Finding(index, "invalid", f"{error}\n{text}"))
        rounding.codes.append(code)
        refusal, error = theirs.run(code), ours.run(code)
        if isinstance(refusal, ValueError) and error is not None:
            return Outcome("refused")
        if refusal is not None:
            name = type(refusal).__name__
            return Outcome("invalid", Finding(index, "invalid", f"the twin raises {name}: {refusal}"))
        if error is not None:
            if may_refuse:
                return Outcome("refused")
            return Outcome("finding", Finding(index, "raises", f"{type(error).__name__}: {error}"))
        expected = theirs.state()
        if any(not np.all(np.abs(value) <= LARGEST) for value in expected.values()):
            return Outcome("overflow")
        difference = compare(ours.state(), expected, rounding)
        if difference:
            return Outcome("finding", Finding(index, "differs", difference))
    return Outcome("agrees")


def compare(ours, expected, rounding):
    """The first difference as text, or ""."""
    if list(ours) != [name for name in expected if name in ours] and set(ours) != set(expected):
        return f"different things are seen: {sorted(set(ours) ^ set(expected))}"
    largest = max((np.max(np.abs(v)) for v in expected.values() if np.size(v)), default=0.0)
    for name, value in expected.items():
        if np.shape(ours[name]) != np.shape(value):
            return f"{name} has shape {np.shape(ours[name])}; expected {np.shape(value)}"
        if np.size(value):
            error = np.max(np.abs(np.asarray(ours[name], np.float64) - value))
            if not rounding.allows(error, name, value, largest):
                return f"{name} differs by {error:.3g}:\n{ours[name]}\nexpected\n{value}"
    return ""


def shrink(program, kind):
    """A smaller program with a finding of the same kind: none of its pieces can be left out."""
    while True:
        before, candidates, i = program, list(program.smaller()), 0
        while i < len(candidates):
            if _shows(candidates[i], kind):
                program = candidates[i]
                candidates = list(program.smaller())  # what stood behind it now stands in its place
            else:
                i += 1
        if program is before:
            return program


def _shows(program, kind):
    finding = run(program).finding
    return finding is not None and finding.kind == kind


def report(program, finding):
    """The program as text that can be run, with what was found."""
    return f"program {program.seed}: block {finding.block} {finding.kind}: {finding.message}\n\n{program.source()}"


# ---- many programs ------------------------------------------------------------------------------


def search(seeds, features=None, progress=None):
    """The first program of these seeds with a finding, shrunk, with that, and how all before it ended."""
    endings, start = Counter(), time.perf_counter()
    for seed in seeds:
        program = generate(seed, features)
        outcome = run(program)
        endings[outcome.ending] += 1
        if outcome.finding is not None:
            if outcome.ending == "finding":
                program = shrink(program, outcome.finding.kind)
            return program, run(program).finding, endings
        if progress is not None and sum(endings.values()) % 1000 == 0:
            progress(f"{sum(endings.values())} programs, {time.perf_counter() - start:.0f} s: {dict(endings)}")
    return None, None, endings


def find(seeds):
    """Print after how many programs a finding of each kind of fault is met first.

    A shrunk program counts for a kind if its pieces invite that one alone: left out, there is no finding.
    """
    met, others, kinds, start = {}, {}, Counter(), time.perf_counter()
    for i, seed in enumerate(seeds, 1):
        program = generate(seed)
        outcome = run(program)
        if outcome.ending != "finding":
            kinds[outcome.ending, ()] += 1
            continue
        small = shrink(program, outcome.finding.kind)
        finding, faults = run(small).finding, tuple(sorted(small.faults()))
        kinds[finding.kind, faults] += 1
        if finding.kind == "differs" and len(faults) == 1 and faults[0] not in met:
            met[faults[0]] = i
            print(f"--- {FAULTS[faults[0]]}, after {i} programs:\n{report(small, finding)}", flush=True)
        elif not faults and (finding.kind, finding.subject) not in others:
            others[finding.kind, finding.subject] = i
            print(f"--- of none of these kinds, after {i} programs:\n{report(small, finding)}", flush=True)
    for (kind, faults), number in kinds.most_common():
        print(f"{number:6} {kind} {faults or ''}")
    print(f"{i} programs in {time.perf_counter() - start:.0f} s")
    for fault, name in FAULTS.items():
        print(f"{fault:2} {f'after {met[fault]:6} programs' if fault in met else 'not met':24} {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--find", action="store_true", help="go on, and tell when each kind of fault is met first")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FASTNN_FUZZ_SEED", 0)))
    parser.add_argument("--count", type=int, default=int(os.environ.get("FASTNN_FUZZ_COUNT", 20_000)))
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.count)
    if args.find:
        return find(seeds)
    program, finding, _ = search(seeds, progress=print)
    if program is not None:
        sys.exit(report(program, finding))


if __name__ == "__main__":
    main()
