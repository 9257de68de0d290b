"""Fixtures that several test modules share."""

import mmap
import signal
import sys

import pytest

from fastnn_ext import runtime


def pytest_configure(config):
    """A runner started in the background ignores SIGINT, and so would Python and all children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Tests marked slow run only when -m is given: -m slow, or -m "slow or not slow"."""
    if not config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))


@pytest.fixture(params=runtime.available_isas())
def isa(request):
    """Runs a test on each instruction set that this machine has."""
    before = runtime.get_isa()
    runtime.set_isa(request.param)
    yield request.param
    runtime.set_isa(before)


@pytest.fixture(params=(1, 2, 3))
def threads(request):
    """Runs a test with 1, 2 and 3 threads."""
    before = runtime.get_num_threads()
    runtime.set_num_threads(request.param)
    yield request.param
    runtime.set_num_threads(before)


@pytest.fixture
def guarded():
    """A function that copies an array to the end of accessible memory; see tests/guarded.py."""
    if not hasattr(mmap, "PROT_READ"):
        pytest.skip("this system has no mprotect")
    from guarded import guarded

    return guarded


@pytest.fixture(autouse=True)
def always_share():
    """Tests are about what teams do, also where a busy machine makes one thread the faster choice."""
    runtime.always_share(True)
    yield
    runtime.always_share(False)


@pytest.fixture(autouse=True)
def torch_on_one_thread():
    """PyTorch's team and ours would wait for each other's cores: five times as long on a busy machine."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def torch_counts_in_double():
    """NAdam's product of momenta has PyTorch's default dtype, whatever the parameters' is."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
