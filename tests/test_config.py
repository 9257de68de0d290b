"""Threads, and what the installation says about itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-1, ValueError), (2**31, ValueError), (1.0, TypeError)])
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


TRAIN = """
import sys
import numpy as np
import fastnn as fn
from fastnn import nn, optim
from fastnn_ext import runtime
runtime.always_share(True)
fn.manual_seed(0)
m = nn.Linear(300, 200)
step = fn.TrainStep(m, nn.CrossEntropyLoss(), optim.SGD(m.parameters(), lr=0.1))
x = np.random.default_rng(0).standard_normal((64, 300)).astype(np.float32)
def steps():
    return [step(x, np.arange(64)) for _ in range(3)][-1]
"""


@pytest.mark.parametrize("n", [200_000, 1_000_000, 2**31 - 1])
def test_more_threads_than_a_machine_can_use_are_left_out_with_a_warning(n):
    most = max(64, 8 * len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None
    with pytest.warns(RuntimeWarning, match=f"{n} threads are more than"):
        fn.set_num_threads(n)
    assert fn.get_num_threads() == (most or fn.get_num_threads()) <= 8 * 4096


def test_an_environment_of_too_many_threads_trains():
    code = "import warnings; warnings.simplefilter('error')\ntry:\n import fastnn\nexcept RuntimeWarning as w: print(w)"
    assert "OMP_NUM_THREADS=200000" in in_new_process(code, OMP_NUM_THREADS="200000")
    few = in_new_process(TRAIN + "print(steps())", OMP_NUM_THREADS="1")
    assert in_new_process(TRAIN + "print(steps())", OMP_NUM_THREADS="200000") == few


def test_where_threads_cannot_be_made_fewer_do_the_work():
    """Under a limit of memory; libgomp ended the process."""
    pytest.importorskip("resource")
    limit = """
import resource
def size():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
"""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("this system does not tell a process's size")
    few = in_new_process(TRAIN + "fn.set_num_threads(1); print(steps())")
    # Room for ten stacks of 8 MiB: after one small team, and before there has been any.
    for first in ("fn.set_num_threads(2); steps(); ", ""):
        code = (
            TRAIN + limit + first + "fn.manual_seed(0)\n"
            "m.weight.data, m.bias.data = nn.Linear(300, 200).state_dict().values()\n"
            "room = size() + (80 << 20)\nresource.setrlimit(resource.RLIMIT_AS, (room, room))\n"
            "fn.set_num_threads(60); print(steps())"
        )
        assert in_new_process(code) == few


def test_where_processes_are_limited_fewer_threads_do_the_work():
    pytest.importorskip("resource")
    begin = TRAIN + "fn.set_num_threads(1); steps()\n"
    limit = (
        "import os, resource\nresource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "if os.getuid() == 0: os.setuid(65533)\n"  # limits do not bind root
    )
    few = in_new_process(begin + "print(steps())")
    assert in_new_process(begin + limit + "fn.set_num_threads(8); print(steps())") == few


def test_a_fork_after_large_teams_makes_its_own():
    code = TRAIN + (
        "fn.set_num_threads(40); steps()\nimport os\npid = os.fork()\nsteps()\n"
        "if pid == 0: os._exit(0)\nprint(os.waitpid(pid, 0)[1])"
    )
    assert in_new_process(code) == "0"


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


def test_a_thousand_threads_are_warned_of_where_they_were_asked_for():
    if hasattr(os, "sched_getaffinity") and 8 * len(os.sched_getaffinity(0)) >= 1000:
        pytest.skip("this machine has a use for a thousand threads")
    with pytest.warns(RuntimeWarning, match="1000 threads are more than") as warned:
        fn.set_num_threads(1000)
    assert [warning.filename for warning in warned] == [__file__]


def test_the_unbuilt_source_says_what_it_is_and_what_to_do(tmp_path):
    """What `import fastnn` finds in the checkout's own folder after `pip install .`."""
    import fastnn_ext

    for package in (fn, fastnn_ext):
        source = Path(package.__file__).parent
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    done = subprocess.run([sys.executable, "-c", "import fastnn"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {os.path.realpath(tmp_path)} holds the source of fastnn, which is not built for Python "
        f"{sys.version_info[0]}.{sys.version_info[1]}: build it with `pip install -e .` in that folder, or start "
        "Python in another one, where the fastnn that is installed is found"
    )
