"""Threads, and what the installation says about itself."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn_ext import runtime


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = fn.get_num_threads()
    yield
    fn.set_num_threads(before)


def in_new_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_threads_are_as_many_as_were_set():
    for n in (3, 1, np.int64(2)):
        fn.set_num_threads(n)
        assert fn.get_num_threads() == n


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (-1, ValueError), (2**31, ValueError), (1.0, TypeError)]
)
@pytest.mark.parametrize("call", [fn.set_num_threads, lambda n: fn.threads(n).__enter__()])
def test_a_wrong_number_of_threads_is_refused(call, n, error):
    fn.set_num_threads(2)
    with pytest.raises(error, match=r"^n: "):
        call(n)
    assert fn.get_num_threads() == 2


@pytest.mark.parametrize("n", [True, None, "2"])
def test_what_is_no_number_of_threads_is_refused(n):
    with pytest.raises(TypeError, match=r"^n: "):
        fn.set_num_threads(n)


def test_a_with_block_has_its_own_number_of_threads():
    fn.set_num_threads(2)
    with fn.threads(1):
        assert fn.get_num_threads() == 1
        with fn.threads(3):
            assert fn.get_num_threads() == 3
        assert fn.get_num_threads() == 1
    assert fn.get_num_threads() == 2


def test_a_with_block_that_fails_restores_the_threads_too():
    fn.set_num_threads(2)
    with pytest.raises(ZeroDivisionError), fn.threads(1):
        raise ZeroDivisionError
    assert fn.get_num_threads() == 2


def test_threadpoolctl_sets_the_number_of_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    fn.set_num_threads(3)
    with threadpoolctl.threadpool_limits(1):
        assert fn.get_num_threads() == 1
    assert fn.get_num_threads() == 3


def test_the_environment_sets_the_number_of_threads():
    code = "import fastnn; print(fastnn.get_num_threads())"
    assert in_new_process(code, OMP_NUM_THREADS="3") == "3"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_default_is_at_most_the_cores_of_the_affinity():
    code = (
        "import os; os.environ.pop('OMP_NUM_THREADS', None);"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import fastnn; print(fastnn.get_num_threads())"
    )
    assert in_new_process(code) == "1"


def test_show_config_tells_what_is_built_found_and_used():
    config = fn.show_config("dicts")
    isa = config["isa"]
    assert isa["used"] == runtime.get_isa()
    assert isa["used"] in isa["found"]
    assert set(isa["found"]) <= set(isa["compiled"])
    assert config["threads"] == fn.get_num_threads()
    assert config["compiler"].split()[0] in ("gcc", "clang", "unknown")
    if config["openmp"]["version"]:
        assert any(os.path.basename(entry["filepath"]) for entry in config["openmp"]["runtimes"])


def test_show_config_follows_the_environment():
    code = "import fastnn, json; print(json.dumps(fastnn.show_config('dicts')['isa']))"
    isa = json.loads(in_new_process(code, FASTNN_ISA="baseline"))
    assert (isa["used"], isa["FASTNN_ISA"]) == ("baseline", "baseline")


def test_show_config_and_show_versions_print(capsys):
    assert fn.show_config() is None
    assert fn.show_versions() is None
    text = capsys.readouterr().out
    for part in (f"used: {runtime.get_isa()}", f"fastnn: {fn.__version__}", "python: ", "numpy: "):
        assert part in text


def test_show_versions_gives_none_for_what_is_not_installed(monkeypatch):
    import importlib.metadata

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    packages = fn.show_versions("dicts")["packages"]
    assert packages["fastnn"] == fn.__version__
    assert packages["numpy"] is None


@pytest.mark.parametrize("show", [fn.show_config, fn.show_versions])
def test_an_unknown_mode_is_refused(show):
    with pytest.raises(ValueError, match=r"mode: .*'json'"):
        show("json")


def test_importing_fastnn_imports_nothing_that_is_only_used_later():
    late = ["tqdm", "safetensors", "threadpoolctl", "matplotlib", "argparse", "csv"]
    code = f"import sys, fastnn; print([m for m in {late} if m in sys.modules])"
    assert in_new_process(code) == "[]"
