"""Files that are written whole or not at all, and safetensors files of others, damaged ones and hostile ones."""

import errno
import json
import os
import random
import stat
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
import fastnn.files
from fastnn import _check, nn
from fastnn.data import write_idx
from fastnn.files import load_arrays, read_forms, save_arrays, write_atomically

from interrupts import Interrupted, places, run

VALUES = np.array([[1.0, -2.5, 3e38], [np.inf, -0.0, 1e-40]], np.float32)


def bfloat16(values):
    """The upper half of each float32, as bytes."""
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


def write(path, **tensors):
    """A file of tensors given as (dtype, shape, bytes)."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_bfloat16_is_widened_to_the_same_numbers(tmp_path):
    scalar = ("BF16", [], bfloat16(7.0))
    path = write(
        tmp_path / "m.st", first=("F64", [1], np.ones(1).tobytes()), a=("BF16", [2, 3], bfloat16(VALUES)), scalar=scalar
    )
    arrays, metadata = load_arrays(path)
    assert metadata == {"format": "pt"}
    assert arrays["a"].dtype == arrays["scalar"].dtype == np.float32
    expected = (VALUES.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert arrays["a"].tobytes() == expected.tobytes()
    assert (arrays["scalar"].shape, float(arrays["scalar"])) == ((), 7.0)
    assert arrays["first"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_model_loads_half_precision(tmp_path, dtype):
    weight, bias = np.array([[0.5, -2.0], [3.0, 0.25]], np.float32), np.array([1.0, 2.0], np.float32)
    pack = bfloat16 if dtype == "BF16" else lambda values: values.astype("<f2").tobytes()
    path = write(tmp_path / "m.st", weight=(dtype, [2, 2], pack(weight)), bias=(dtype, [2], pack(bias)))
    model = nn.Linear(2, 2).load(path)
    assert model.weight.dtype == np.float32
    np.testing.assert_array_equal(model.weight.data, weight)
    np.testing.assert_array_equal(model.bias.data, bias)
    other = nn.Linear(2, 2).double()
    other.load_state_dict(load_arrays(path)[0])
    np.testing.assert_array_equal(other.weight.data, weight)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F9_NEW"])
def test_a_dtype_that_cannot_be_read_is_named_with_its_tensor_and_file(tmp_path, dtype):
    path = write(tmp_path / "m.st", bias=("F32", [1], b"\0" * 4), weight=(dtype, [4], b"\0" * 4))
    with pytest.raises(ValueError, match=rf"m\.st: tensor 'weight' has dtype {dtype}, which fastnn does not read"):
        load_arrays(path)


def test_a_file_of_bfloat16_that_is_cut_is_not_intact(tmp_path):
    path = write(tmp_path / "m.st", a=("BF16", [2, 3], bfloat16(VALUES)))
    for size in range(len(path.read_bytes())):
        cut = tmp_path / "cut.st"
        cut.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match=r"cut\.st is no intact safetensors file"):
            load_arrays(cut)


def test_half_precision_as_an_argument_is_refused_by_name_with_what_to_do():
    x, half = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float16)
    model = nn.Linear(3, 3)
    step = fn.TrainStep(model, nn.MSELoss(), fn.optim.SGD(model.parameters()))
    cases = [
        ("input", lambda: model(half)),
        ("input", lambda: nn.MSELoss()(half, x)),
        ("target", lambda: nn.MSELoss()(x, half)),
        ("target", lambda: nn.MSELoss().value_and_grad(x, half)),
        ("input", lambda: nn.functional.relu(half)),
        ("target", lambda: step(x, half)),
    ]
    for name, call in cases:
        with pytest.raises(TypeError, match=rf"^{name} has dtype float16; .*convert it with \.astype\(np\.float32\)"):
            call()
    trainer = fn.Trainer(model, nn.MSELoss(), fn.optim.SGD(model.parameters()), [])  # converts, as its docstring says
    assert np.array_equal(trainer.predict(half), model(x))


def test_bfloat16_as_an_argument_is_refused_by_name():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(TypeError, match=r"^input has dtype bfloat16; .*convert it with \.astype\(np\.float32\)"):
        nn.Linear(3, 3)(np.zeros((2, 3), ml_dtypes.bfloat16))


def test_a_tensor_that_numpy_cannot_read_is_named():
    class Tensor:
        dtype = "torch.bfloat16"

        def __dlpack__(self, **_):
            raise BufferError("unsupported dtype")

        def __dlpack_device__(self):
            return (1, 0)

    with pytest.raises(TypeError, match=r"^input of dtype torch\.bfloat16 cannot be read as an array: unsupported"):
        nn.Linear(3, 3)(Tensor())


# ---- writing -----------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="modes and links are POSIX's")


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@posix
def test_the_umask_is_heeded_and_never_touched(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process's"))
            write_atomically(tmp_path / "a", b"new")
            nn.Linear(1, 1).save(tmp_path / "b")
            write_idx(tmp_path / "c", np.zeros(3, np.uint8))
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in "abc"] == [0o640] * 3


@posix
@pytest.mark.parametrize("own", [0o600, 0o640, 0o666, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode_and_is_never_more_open(tmp_path, monkeypatch, own):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(own)
    seen = []
    sync = os.fsync

    def look(descriptor):
        seen.extend(mode(entry) for entry in tmp_path.iterdir())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    write_atomically(path, b"n", b"ew")
    assert (path.read_bytes(), mode(path)) == (b"new", own)
    assert seen == [own, own]


@posix
def test_a_symbolic_link_stays_one_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    target, link, second = tmp_path / "far" / "file", tmp_path / "near" / "link", tmp_path / "second"
    link.symlink_to("../far/file")
    second.symlink_to(link)
    write_atomically(second, b"new")  # nothing was there
    assert target.read_bytes() == b"new"
    nn.Linear(1, 1).save(second)
    assert second.is_symlink() and link.is_symlink() and not target.is_symlink()
    nn.Linear(1, 1).load(target)
    assert sorted(os.listdir(tmp_path / "far")) == ["file"] and os.listdir(tmp_path / "near") == ["link"]


@posix
def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    """A pipe of the test's own: a test that replaced a real device, as root, would harm the whole machine."""
    path, received = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
    reader.start()
    write_atomically(path, b"so", b"me")
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        pytest.fail("the pipe was replaced")
    reader.join()
    assert received == [b"some"] and os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("letter", ["a", "é"])
def test_names_may_be_as_long_as_the_system_allows(tmp_path, letter):
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    path = tmp_path / (letter * (longest // len(letter.encode())))
    for _ in range(2):
        nn.Linear(1, 1).save(path)
        write_idx(path, np.zeros(3, np.uint8))
        fn.save_checkpoint(path, nn.Linear(1, 1))
    assert os.listdir(tmp_path) == [path.name]


MODEL = nn.Linear(1, 1)
WRITERS = {
    "model": lambda path: MODEL.save(path),
    "checkpoint": lambda path: fn.save_checkpoint(path, MODEL),
    "idx": lambda path: write_idx(path, np.zeros(3, np.uint8)),
    "compressed": lambda path: write_idx(f"{path}.gz", np.zeros(3, np.uint8)),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_error_of_the_system_names_the_path_that_was_given(tmp_path, monkeypatch, write):
    def fails(path, kind):
        with pytest.raises(kind) as caught:
            write(path)
        assert caught.value.filename in (str(path), f"{path}.gz") and caught.value.errno

    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.gz").mkdir()
    fails(tmp_path / "none" / "a", FileNotFoundError)
    fails(tmp_path / "folder", IsADirectoryError)
    fails(tmp_path / "file" / "a", NotADirectoryError)
    fails(tmp_path / ("a" * 300), OSError)
    if os.name == "posix":
        for name in ("loop", "loop.gz"):
            (tmp_path / name).symlink_to(name)
        fails(tmp_path / "loop", OSError)
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def full(*_):
                raise OSError(errno.ENOSPC, "No space left on device", "another name")

            patch.setattr(os, call, full)
            fails(tmp_path / "file", OSError)
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(set(os.listdir(tmp_path)) - {"loop", "loop.gz"}) == ["file", "folder", "folder.gz"]


@pytest.mark.attack
@pytest.mark.parametrize("most", [150, pytest.param(10**9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_an_interrupt_while_saving_leaves_one_whole_file_and_no_descriptor(tmp_path, write, most):
    path = tmp_path / "a"
    write(path)
    (name,) = os.listdir(tmp_path)
    new = (tmp_path / name).read_bytes()
    descriptors = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    count = len(os.listdir(descriptors)) if os.path.isdir(descriptors) else None
    seen = set()
    for at in places(lambda: write(path), most):
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(Interrupted):
            run(lambda: write(path), at)
        assert os.listdir(tmp_path) == [name], at
        seen.add((tmp_path / name).read_bytes())
        assert seen <= {b"old", new}
        if count is not None:
            assert len(os.listdir(descriptors)) == count, at
    assert seen == {b"old", new}


# ---- files that are changed while they are read ---------------------------------------------------------

REWRITTEN = """
import os, signal, sys, time
from fastnn import nn
path, seconds = sys.argv[1], float(sys.argv[2])
model = nn.Linear(1000, 300)
model.save(path)
data = open(path, "rb").read()
end = time.monotonic() + seconds
loaded = refused = 0

reader = os.getpid()
writer = os.fork()  # another process: a thread would wait for the GIL while this one reads
if not writer:
    with open(path, "r+b") as file:
        while os.getppid() == reader:
            file.truncate(5000)
            time.sleep(0.0002)
            file.seek(0)
            file.write(data)
            file.flush()
            time.sleep(0.001)
    os._exit(0)
try:
    while time.monotonic() < end or not (loaded and refused):
        try:
            model.load(path)
            loaded += 1
        except ValueError:
            refused += 1
finally:
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
print(loaded, refused)
"""


@posix
def test_a_file_that_is_rewritten_in_place_while_it_is_loaded_is_refused_and_nothing_crashes(tmp_path):
    """A process that maps a file ends by SIGBUS when the file is cut under it."""
    command = [sys.executable, "-c", REWRITTEN, str(tmp_path / "m"), "1"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, (child.returncode, child.stderr)
    assert all(int(count) > 0 for count in child.stdout.split())


def test_a_file_that_is_cut_between_its_header_and_its_data_is_refused(tmp_path):
    path = tmp_path / "m"
    save_arrays(path, {"a": np.ones(10), "b": np.ones(1000)}, {})
    with pytest.raises(ValueError, match=r"m is no intact safetensors file: it ends after 700 of .* tensor 'b'"):
        load_arrays(path, lambda forms, metadata: os.truncate(path, os.path.getsize(path) - 8000 + 700))


def test_many_threads_save_and_load_one_file(tmp_path):
    path, model = tmp_path / "m", nn.Linear(30, 30)
    model.save(path)
    errors = []

    def work(number):
        own = nn.Linear(30, 30)
        try:
            for i in range(10):
                own.weight.data[...] = number * 100 + i
                own.save(path)
                own.load(path)
                assert len(np.unique(own.weight.data)) == 1
        except Exception as error:
            errors.append(error)

    own = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in own:
        thread.start()
    for thread in own:
        thread.join()
    assert not errors and os.listdir(tmp_path) == ["m"]


# ---- checksums -------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 1))
    model.save(tmp_path / "m.st")
    return model, tmp_path / "m.st"


def test_every_flipped_bit_of_a_model_file_is_refused_and_changes_nothing(small):
    _, path = small
    data = path.read_bytes()
    other = nn.Sequential(nn.Linear(2, 1))
    before = {name: array.tobytes() for name, array in other.state_dict().items()}
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"m\.st"):
            other.load(path)
    assert {name: array.tobytes() for name, array in other.state_dict().items()} == before


def test_every_cut_of_a_model_file_and_bytes_after_it_are_refused(small):
    model, path = small
    data = path.read_bytes()
    for damaged in [*(data[:size] for size in range(len(data))), data + b"\0", data + data]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"m\.st is no intact safetensors file"):
            model.load(path)


def test_other_weights_under_the_old_checksum_are_damaged(small):
    model, path = small
    arrays, metadata = load_arrays(path)
    assert set(metadata) == {"fastnn.model", "fastnn.crc32"}
    arrays["0.weight"][0, 0] += 1
    save_arrays(path, arrays, metadata)
    with pytest.raises(ValueError, match=r"m\.st is damaged: its checksum is not the one recorded in it"):
        model.load(path)


def test_files_without_a_checksum_load(small):
    model, path = small
    arrays, _ = load_arrays(path)
    for metadata in ({}, {"format": "pt"}, {"fastnn.model": "Sequential"}):
        save_arrays(path, {name: array + 1 for name, array in arrays.items()}, metadata)
        model.load(path)
        np.testing.assert_array_equal(model[0].weight.data, arrays["0.weight"] + 1)


def test_the_safetensors_package_reads_what_is_written_and_is_read(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    dtypes = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", ">f4", ">i2"]
    arrays = {f"ä.{d}": rng.integers(0, 2, (3, k % 4)).astype(d) for k, d in enumerate(dtypes)}
    columns = np.asfortranarray(rng.normal(size=(3, 4)))
    arrays |= {"scalar": np.array(3.0), "columns": columns, "empty": np.zeros((0, 5))}
    save_arrays(tmp_path / "a", arrays, {"note": 'ä "quoted" \n'}, digest=True)
    native = {k: np.ascontiguousarray(v).astype(v.dtype.newbyteorder("=")) for k, v in arrays.items()}
    numpy.save_file(native, tmp_path / "b")
    for found in (numpy.load_file(tmp_path / "a"), load_arrays(tmp_path / "a")[0], load_arrays(tmp_path / "b")[0]):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name].reshape(array.shape), array)
            assert found[name].dtype == array.dtype.newbyteorder("=")
    assert load_arrays(tmp_path / "a")[1]["note"] == 'ä "quoted" \n'


# ---- hostile headers -------------------------------------------------------------------------------------


def raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


FOUR = b"\0" * 4
HEADERS = {
    "no table": [1, 2],
    "null": None,
    "a number": 5,
    "not JSON": b"{",
    "not UTF-8": b'{"\xff": 1}',
    "nested": b"[" * 100000 + b"]" * 100000,
    "nested in an entry": b'{"a":' * 50000 + b"1" + b"}" * 50000,
    "many lists": b'{"a":[' + b"[]," * 2000000 + b"[]]}",
    "an infinity": b'{"a": Infinity}',
    "a number of 5000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "twice": b'{"a":1,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "an entry that is a list": {"a": []},
    "an entry of less": {"a": {"dtype": "F32", "shape": [1]}},
    "an entry of more": {"a": {**entry(), "more": 1}},
    "dtype": {"a": entry(dtype=["F32"])},
    "dtype of a million letters": {"a": entry(dtype="F" * 10**6)},
    "shape of a text": {"a": {**entry(), "shape": "1"}},
    "negative shape": {"a": entry(shape=(-1, -1))},
    "shape of floats": {"a": entry(shape=(1.0,))},
    "shape of bools": {"a": entry(shape=(True,))},
    "shape of a table": {"a": {**entry(), "shape": {}}},
    "shape that overflows": {"a": entry(shape=(2**62, 4))},
    "shape that overflows to the size": {"a": entry(shape=(2**32, 2**32, 1))},
    "shape of zeros that overflows": {"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))},
    "shape of 2**64": {"a": entry(shape=(2**64,))},
    "10**400": {"a": entry(shape=(10**400,))},
    "33 axes": {"a": entry(shape=(1,) * 33)},
    "a million axes": {"a": entry(shape=(1,) * 10**6)},
    "offsets in reverse": {"a": entry(offsets=(4, 0))},
    "one offset": {"a": entry(offsets=(4,))},
    "offsets beyond the end": {"a": entry(shape=(2,), offsets=(0, 8))},
    "2**63": {"a": entry(shape=(2**61 - 1,), offsets=(0, 2**63 - 4))},
    "offsets from behind": {"a": entry(offsets=(-4, 0))},
    "a gap": {"a": entry(shape=(0,), offsets=(0, 0)), "b": entry(shape=(0,), offsets=(4, 4))},
    "overlapping": {"a": entry(), "b": entry()},
    "less than there is": {"a": entry(shape=(0,), offsets=(0, 0))},
    "metadata of a list": {"__metadata__": [], "a": entry()},
    "metadata of numbers": {"__metadata__": {"a": 1}, "a": entry()},
    "tensor of metadata's name": {"__metadata__": entry()},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_says_what_is_not_so_is_refused_shortly(tmp_path, header):
    path = raw(tmp_path / "h.st", header, FOUR)
    model = nn.Linear(2, 2)
    for load in (load_arrays, read_forms, model.load, lambda path: fn.load_checkpoint(path, model)):
        with pytest.raises(ValueError, match=r"h\.st") as caught:
            load(path)
        assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


UNPRINTABLE = ["\x1b[2J", "a\nb", "\x85", "\0", "\U000e0001" * 99, "\ud800", "\udcff"]


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("name", UNPRINTABLE, ids=lambda name: ascii(name)[:9])
def test_names_that_a_terminal_obeys_or_cannot_show_are_told_in_escapes(tmp_path, name, digest):
    header = {name * (i + 1): entry(offsets=(4 * i, 4 * i + 4)) for i in range(8)}
    if digest:
        header["__metadata__"] = {"fastnn.model": "Linear", "fastnn.crc32": "00000000"}
    path = raw(tmp_path / "h.st", header, FOUR * 8)
    model = nn.Linear(2, 2)
    for strict in (True, False) if digest else (True,):
        with pytest.raises(ValueError, match=r"h\.st") as caught:
            model.load(path, strict=strict)
        assert len(str(caught.value)) < 1000 + len(str(path)) and str(caught.value).isprintable()


def test_letters_in_escapes_are_the_letters(tmp_path):
    path = raw(tmp_path / "h.st", {"\U0001f600 \\ud": entry()}, FOUR)
    assert b"\\ud83d\\ude00" in path.read_bytes()
    assert list(load_arrays(path)[0]) == ["\U0001f600 \\ud"]


def test_what_messages_show_of_a_value_is_short_and_can_be_printed():
    for value in ("", "a" * 121, "\x1b" * 300, "\U000e0001" * 99, "'\"\n", ["\n" * 9] * 9, {"a": "\x1b" * 99}, 9**999):
        for text in (_check.brief(value), _check.brief(value, str), _check.some([value] * 20)):
            assert text.isprintable() and len(text) < 500
    assert _check.brief("a b", str) == "a b" and _check.brief("a\nb", str) == r"a\nb"
    assert _check.brief("a" * 121, str).endswith("a... (121 characters)")
    assert _check.some("abc") == "a, b, c" and _check.some("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"


@pytest.mark.parametrize("length", [0, 1, 7, 2**25 + 1, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_length_of_the_header_that_cannot_be_is_refused(tmp_path, length):
    path = tmp_path / "h.st"
    path.write_bytes(length.to_bytes(8, "little") + b"{}      ")
    if length > 2**25 and length < 2**40:
        os.truncate(path, length + 16)  # sparse: there are as many bytes
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"h\.st is no intact safetensors file"):
            load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", [150_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_million_unknown_tensors_are_refused_in_little_memory(tmp_path, most):
    one = '"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    for count in (30_000, most):
        path = raw(tmp_path / "m.st", ("{" + ",".join(one % i for i in range(count)) + "}").encode())
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"m\.st") as caught:
                nn.Linear(2, 2).load(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(str(caught.value)) < 1000
        assert peak < 2**28 and (count <= 2**17 or peak < 2.5 * path.stat().st_size + 2**27)


def test_what_does_not_fit_is_refused_before_memory_is_taken(tmp_path):
    weight, bias = entry(shape=(2**30,), offsets=(0, 2**32)), entry(offsets=(2**32, 2**32 + 4))
    path = raw(tmp_path / "m.st", {"weight": weight, "bias": bias})
    os.truncate(path, path.stat().st_size + 2**32 + 4)  # sparse
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"m\.st does not fit Linear: .*weight has shape \(1073741824,\)"):
            nn.Linear(2, 2).load(path)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("one", ["[],", "{},"])
def test_a_text_of_a_million_lists_or_tables_is_refused_before_it_is_parsed(tmp_path, one):
    """A table of none takes twenty times the memory of its two letters."""
    path = raw(tmp_path / "m.st", {"__metadata__": {"checkpoint": "[" + one * 2**20 + "0]"}})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"m\.st .* header holds \d+ lists and tables, more than is read"):
            load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_what_a_header_cannot_hold_is_not_written(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fn.files, "_MOST_TENSORS", 20)
        with pytest.raises(ValueError, match=r"m cannot hold 21 tensors"):
            save_arrays(tmp_path / "m", {str(i): np.zeros(0) for i in range(21)}, {})
    with pytest.raises(ValueError, match=r"m cannot hold a header of"):
        save_arrays(tmp_path / "m", {}, {"long": "a" * 2**25})
    with pytest.raises(ValueError, match=r"m cannot hold \d+ lists"):
        fn.save_checkpoint(tmp_path / "m", nn.Linear(1, 1), extra={"lists": [[]] * 2**20})
    for array in (np.zeros(2, complex), np.zeros(2, "U3"), np.zeros(2, object)):
        with pytest.raises(TypeError, match="a has dtype"):
            save_arrays(tmp_path / "m", {"a": array}, {})
    assert os.listdir(tmp_path) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
sizes = st.integers(-1, 9) | st.sampled_from([2**31, 2**62, 2**63, 2**64])
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "BOOL", "U8", "F8_E4M3", "", "C64"]) | json_values,
        "shape": st.lists(sizes, max_size=4) | json_values,
        "data_offsets": st.lists(sizes, min_size=2, max_size=2) | json_values,
    }
)
headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__", "weight"]), entries | json_values, max_size=3)


@settings(max_examples=150, deadline=None)
@given(headers, st.binary(max_size=40))
def test_no_header_gives_anything_but_arrays_or_a_value_error(tmp_path_factory, header, data):
    path = raw(tmp_path_factory.getbasetemp() / "hypothesis.st", header, data)
    try:
        arrays, metadata = load_arrays(path)
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 1000
    else:
        assert sum(a.nbytes // (2 if header[k]["dtype"] == "BF16" else 1) for k, a in arrays.items()) == len(data)
        assert all(type(value) is str for value in metadata.values())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_give_anything_but_a_value_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.st"
    path.write_bytes(data)
    try:
        assert load_arrays(path)[0] == {}
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("rounds", [1000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_bytes_changed_at_random_are_refused_or_load_the_same(small, rounds):
    model, path = small
    data, rng = path.read_bytes(), random.Random(0)
    expected = {name: array.tobytes() for name, array in model.state_dict().items()}
    for _ in range(rounds):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 3, 8, 30))):
            at = rng.randrange(len(damaged) + 1)
            what = rng.randrange(4)
            if what == 0:
                damaged[at : at + 1] = rng.randbytes(1)
            elif what == 1:
                del damaged[at : at + rng.randrange(1, 9)]
            elif what == 2:
                damaged[at:at] = rng.randbytes(rng.randrange(1, 9))
            else:
                damaged[at:at] = rng.choice([b"[", b"{", b'"', b"9", b"-", b",", b"e", b"null", b"\\"])
        path.write_bytes(damaged)
        try:
            model.load(path)
        except ValueError:
            pass
        else:
            assert {name: array.tobytes() for name, array in model.state_dict().items()} == expected
