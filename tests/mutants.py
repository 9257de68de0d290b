"""Makes mutants of a source file, one small change each, and runs tests on them: those that pass are survivors.

    python tests/mutants.py fastnn/nn/init.py tests/test_nn_init.py
    python tests/mutants.py fastnn_ext/reduce.pyx tests/test_reduce.py --count 10 --seed 3

Works in a copy of the tree; run it where fastnn is built in place (pip install -e .). Native sources are rebuilt for
each mutant. A survivor is a line whose change no test sees: either a test is missing, or the change changes nothing.
"""

import argparse
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NATIVE = (".pyx", ".pxd", ".c", ".h")
SWAPS = {
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "+", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
    "==": "!=", "!=": "==", "+=": "-=", "-=": "+=", "&&": "||", "||": "&&", "and": "or", "or": "and", "min": "max",
    "max": "min", "True": "False", "False": "True", "not": "", "is not": "is", "in": "not in", "any": "all",
    "all": "any", "continue": "break", "break": "continue", "return": "return None #",
}  # fmt: skip
WORDS = re.compile(r"->|\d+\.\d+(?:e-?\d+)?|\b\d+\b|\bis not\b|\b[a-zA-Z_]\w*\b|//|[-+]=|[<>=!]=|&&|\|\||[-+*/%<>]")


def code_of(path, text):
    """The places of a source that are code: (start, end) on neither comments nor strings."""
    if path.suffix == ".py":
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER):
                yield starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]
        return
    strings = r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"'
    comments = r"#[^\n]*" if path.suffix in (".pyx", ".pxd") else r"/\*[\s\S]*?\*/|//[^\n]*|^#[^\n]*"
    at = 0
    for match in re.finditer(f"{strings}|{comments}", text, re.MULTILINE):
        yield at, match.start()
        at = match.end()
    yield at, len(text)


def mutants_of(path, text):
    """All changes: (start, end, what stands there, what it becomes)."""
    for start, end in code_of(path, text):
        for match in WORDS.finditer(text, start, end):
            word = match.group()
            if re.fullmatch(r"\d+", word):
                yield *match.span(), word, str(int(word) + 1)
            elif word[0].isdigit():
                yield *match.span(), word, repr(float(word) * 0.98)
            elif word in SWAPS and not (path.suffix in (".c", ".h") and word in ("and", "or", "in", "not", "return")):
                yield *match.span(), word, SWAPS[word]


def copy_tree(target):
    """The tracked sources, and what is built in place."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    built = [str(p.relative_to(ROOT)) for pattern in ("fastnn_ext/*.so", "fastnn_ext/*.c") for p in ROOT.glob(pattern)]
    for name in {*filter(None, tracked.split("\0")), *built}:
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    if (ROOT / "build").exists():
        shutil.copytree(ROOT / "build", target / "build")


def survives(tree, path, tests, timeout):
    """Whether the tests pass in this tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        if path.suffix in NATIVE:
            build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
            if subprocess.run(build, cwd=tree, env=environment, capture_output=True).returncode:
                return False
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(tree / t for t in tests)]
        run = subprocess.run(command, cwd=tree / "tests", env=environment, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--count", type=int, default=20, help="how many mutants (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one (default 600)")
    args = parser.parse_args()
    path = Path(args.source)
    text = (ROOT / path).read_text()
    found = list(mutants_of(path, text))
    chosen = sorted(random.Random(args.seed).sample(found, min(args.count, len(found))))
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        if not survives(tree, path, args.tests, args.timeout):
            sys.exit("the tests fail without any change")
        for start, end, old, new in chosen:
            (tree / path).write_text(text[:start] + new + text[end:])
            alive = survives(tree, path, args.tests, args.timeout)
            survivors += alive
            line = text.count("\n", 0, start)
            print(
                f"{'SURVIVES' if alive else 'found   '}  {path}:{line + 1}: {old!r} -> {new!r}: "
                f"{text.splitlines()[line].strip()}",
                flush=True,
            )
    print(f"{survivors} of {len(chosen)} survive ({len(found)} possible)")


if __name__ == "__main__":
    main()
