"""IDX files: what is written is read, and nothing else is."""

import gzip
import os
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn.data import read_idx, write_idx

DTYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]
SMALL = np.array([[1, 2, 3], [40, 50, 60]], np.int16)
SMALL_BYTES = bytes.fromhex("00000b02 00000002 00000003 0001 0002 0003 0028 0032 003c")


def file_with(folder, content):
    path = folder / "file"
    path.write_bytes(content)
    return path


def header(code, *lengths):
    return bytes([0, 0, code, len(lengths)]) + struct.pack(f">{len(lengths)}I", *lengths)


# Round trips


@pytest.mark.parametrize("name", ["array.idx", "array.idx.gz"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_array_comes_back_as_it_was(tmp_path_factory, name, data):
    dtype = data.draw(st.sampled_from(DTYPES).map(np.dtype))
    dtype = dtype.newbyteorder(data.draw(st.sampled_from("<>")))
    shape = hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)
    array = data.draw(hnp.arrays(dtype, shape))
    path = tmp_path_factory.mktemp("idx") / name
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == dtype.newbyteorder("=") and back.dtype.isnative
    assert back.flags.c_contiguous and back.flags.aligned and back.flags.writeable
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(back.dtype).tobytes()  # NaN too, bit for bit


@pytest.mark.parametrize(
    "array",
    [SMALL.T, SMALL[::-1, ::2], np.broadcast_to(SMALL[0], (4, 3)), np.asfortranarray(SMALL)],
    ids=["transposed", "strided", "broadcast", "fortran"],
)
def test_any_memory_layout_is_written_row_by_row(tmp_path, array):
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_an_array_of_32_axes_comes_back(tmp_path):
    array = np.arange(2, dtype=np.uint8).reshape([1] * 31 + [2])
    write_idx(tmp_path / "a", array)
    assert read_idx(tmp_path / "a").shape == array.shape


def test_the_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "a", SMALL)
    assert (tmp_path / "a").read_bytes() == SMALL_BYTES
    write_idx(tmp_path / "a.gz", SMALL)
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == SMALL_BYTES


@pytest.mark.parametrize(
    ("code", "element", "value"),
    [
        (0x08, "ff", np.uint8(255)),
        (0x09, "ff", np.int8(-1)),
        (0x0B, "fffe", np.int16(-2)),
        (0x0C, "fffffffd", np.int32(-3)),
        (0x0D, "bfc00000", np.float32(-1.5)),
        (0x0E, "bff8000000000000", np.float64(-1.5)),
    ],
)
def test_type_codes_are_those_of_the_format(tmp_path, code, element, value):
    back = read_idx(file_with(tmp_path, header(code, 1) + bytes.fromhex(element)))
    assert back.dtype == value.dtype
    assert back.tolist() == [value]


def test_compression_is_judged_by_content_when_reading(tmp_path):
    np.testing.assert_array_equal(read_idx(file_with(tmp_path, SMALL_BYTES)), SMALL)
    np.testing.assert_array_equal(read_idx(file_with(tmp_path, gzip.compress(SMALL_BYTES))), SMALL)


def test_the_same_array_gives_the_same_compressed_bytes(tmp_path, monkeypatch):
    write_idx(tmp_path / "a.gz", SMALL)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    write_idx(tmp_path / "b.gz", SMALL)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("wrap", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
def test_paths_of_any_kind_are_taken(tmp_path, wrap):
    write_idx(wrap(tmp_path / "a"), SMALL)
    np.testing.assert_array_equal(read_idx(wrap(tmp_path / "a")), SMALL)


# Hostile files


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, pack):
    content = pack(SMALL_BYTES)
    for size in range(len(content)):
        path = file_with(tmp_path, content[:size])
        with pytest.raises(ValueError, match="file: ") as raised:
            read_idx(path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_header_with_a_flipped_bit_is_refused_or_says_another_type(tmp_path, dtype):
    write_idx(tmp_path / "good", np.ones((3, 5, 2), dtype))
    good = (tmp_path / "good").read_bytes()
    refused = 0
    for bit in range(8 * 16):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        path = file_with(tmp_path, content)
        try:
            array = read_idx(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # uint8 and int8, or int32 and float32, differ in a bit of the code alone
            assert bit // 8 == 2
            assert array.dtype != dtype and array.dtype.itemsize == np.dtype(dtype).itemsize
    assert refused >= 8 * 16 - 1


def test_a_compressed_file_with_a_flipped_bit_is_refused_or_reads_the_same(tmp_path):
    good = gzip.compress(SMALL_BYTES, mtime=0)
    harmless = set()
    for bit in range(8 * len(good)):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        path = file_with(tmp_path, content)
        try:
            np.testing.assert_array_equal(read_idx(path), SMALL)
            harmless.add(bit // 8)
        except ValueError as error:
            assert str(path) in str(error)
    header, padding = range(3, 10), len(good) - 9  # flags, time, origin; the last deflate byte
    assert harmless <= {*header, padding}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 bytes of its magic number"),
        (b"\0\0\x08", "ends after 3 bytes of its magic number"),
        (b"\x89PNG\r\n\x1a\n", "no IDX file: it begins with the bytes 89 50 4e 47"),
        (header(0x0A, 1) + b"\0", "no IDX file: .* 00 00 0a 01"),
        (bytes([0, 1]) + header(8, 1)[2:] + b"\0", "no IDX file"),
        (header(8) + b"\0", "no IDX file: .* 00 00 08 00"),
        (header(8, *[1] * 33) + b"\0", "no IDX file: .* 00 00 08 21"),
        (header(8, 2, 3)[:9], "ends after 5 bytes of its axis lengths"),
        (header(8, 2, 3) + bytes(5), r"ends after 5 bytes of its 6 bytes of uint8 \(2, 3\)"),
        (header(8, 2, 3) + bytes(7), r"bytes follow after the end of its uint8 array \(2, 3\)"),
        (header(8, 0) + b"\0", "bytes follow"),
        (header(8, 2**32 - 1), "ends after 0 bytes of its 4294967295 bytes"),
        (header(8, 2**31, 2**31), "ends after 0 bytes of its 4611686018427387904 bytes"),
        (header(8, 2**31, 2**31, 2), "no array can have the shape"),
        (header(0x0E, 2**30, 2**30), "no array can have the shape"),
        (header(8, *[2**32 - 1] * 32), "no array can have the shape"),
        (header(8, 2**16, 2**16, 2**16, 2**16), "no array can have the shape"),  # 0 mod 2**64
        (header(8, 2**32 - 1, 2**32 - 1, 0), "no array can have the shape"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_what_is_wrong_is_said(tmp_path, content, message, pack):
    with pytest.raises(ValueError, match=message):
        read_idx(file_with(tmp_path, pack(content)))


def test_garbage_after_the_compressed_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="damaged gzip file"):
        read_idx(file_with(tmp_path, gzip.compress(SMALL_BYTES) + b"garbage"))


def peak_of(function, *args):
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refusal(path):
    with pytest.raises(ValueError):
        read_idx(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_reading_takes_at_most_twice_the_array(tmp_path, name, dtype):
    array = np.zeros(8_000_000 // np.dtype(dtype).itemsize, dtype)
    write_idx(tmp_path / name, array)
    assert peak_of(read_idx, tmp_path / name) < 2 * array.nbytes


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_a_header_that_promises_much_costs_no_memory(tmp_path, pack):
    path = file_with(tmp_path, pack(header(0x0E, 2**29, 2**30) + bytes(100)))
    assert peak_of(refusal, path) < 2e6


def test_a_file_that_unpacks_to_more_than_its_header_promises_costs_no_memory(tmp_path):
    path = file_with(tmp_path, gzip.compress(header(8, 10) + bytes(50_000_000)))
    assert peak_of(refusal, path) < 2e6


# Files that are not there, arrays that cannot be written


@pytest.mark.parametrize("path", [3, None, 1.5, [b"a"]])
def test_what_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError, match="path must be a path"):
        read_idx(path)
    with pytest.raises(TypeError, match="path must be a path"):
        write_idx(path, SMALL)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        read_idx(tmp_path)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros(2, np.int64), TypeError, "array: IDX holds uint8.*, got int64"),
        (np.zeros(2, np.uint16), TypeError, "got uint16"),
        (np.zeros(2, np.float16), TypeError, "got float16"),
        (np.zeros(2, bool), TypeError, "got bool"),
        (np.zeros(2, complex), TypeError, "got complex128"),
        (np.array([None]), TypeError, "got object"),
        (np.array(["a"]), TypeError, "got <U1"),
        (np.float32(1), ValueError, r"array: IDX holds 1 to 32 axes.* \(\)"),
        (np.broadcast_to(np.uint8(0), 2**32), ValueError, "at most 4294967295"),
    ],
)
def test_an_array_that_idx_cannot_hold_is_refused_before_writing(tmp_path, array, error, message):
    with pytest.raises(error, match=message):
        write_idx(tmp_path / "a", array)
    assert list(tmp_path.iterdir()) == []


# Atomic writing


@pytest.mark.parametrize("name", ["a", "a.gz"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, step, error):
    def fail(*args):
        raise error

    write_idx(tmp_path / name, SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(type(error)):
            write_idx(tmp_path / name, SMALL + 1)
    assert os.listdir(tmp_path) == [name]
    np.testing.assert_array_equal(read_idx(tmp_path / name), SMALL)


def test_the_bytes_reach_the_disk_before_they_take_the_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(handle):
        steps.append(("fsync", os.fstat(handle).st_size))
        fsync(handle)

    def recorded_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        steps.append(("replace", os.path.getsize(source)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_idx(tmp_path / "a", SMALL)
    assert steps == [("fsync", len(SMALL_BYTES)), ("replace", len(SMALL_BYTES))]


def test_a_writer_killed_at_any_time_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a"
    write_idx(path, np.zeros(200_000, np.int32))
    program = (
        "import sys, numpy as np; from fastnn.data import write_idx\n"
        "print('ready', flush=True)\n"
        "for value in range(10**9): write_idx(sys.argv[1], np.full(200_000, value, np.int32))\n"
    )
    for delay in np.linspace(0, 0.05, 6):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout.read(5) == b"ready"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        array = read_idx(path)
        assert array.shape == (200_000,) and (array == array[0]).all()


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_the_file_gets_the_permissions_that_the_user_asks_for(tmp_path):
    mask = os.umask(0o027)
    try:
        write_idx(tmp_path / "a", SMALL)
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
