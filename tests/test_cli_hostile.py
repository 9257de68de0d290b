"""The command line on run folders and files of strangers: one line and status 2, in little memory."""

import gzip
import itertools
import json
import math
import os
import shutil
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn.cli import main
from fastnn.cli.run import Run
from fastnn.data import mnist, read_idx, write_idx
from fastnn.files import save_arrays


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in an empty folder with a home of its own, and leaves threads and seed as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads, state = fn.get_num_threads(), fn.get_rng_state()
    yield tmp_path
    fn.set_num_threads(threads)
    fn.set_rng_state(state)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs on the embedded digits."""
    path = tmp_path_factory.mktemp("trained") / "r"
    assert main(["train", "--hidden", "4", "--epochs", "2", "--no-shifts", "--out", str(path), "--json"]) == 0
    return path


@pytest.fixture
def r(trained, folder):
    shutil.copytree(trained, folder / "r")
    return folder / "r"


@pytest.fixture
def fails(capsys):
    """Runs a command that fails with status 2; returns the one line that it prints."""

    def fail(*argv):
        capsys.readouterr()
        status = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert (status, out) == (2, ""), err
        assert err.startswith("fastnn: error: ") and err.count("\n") == 1 and err.endswith("\n")
        assert len(err) < 2100 and "Traceback" not in err
        return err

    return fail


@pytest.fixture
def succeeds(capsys):
    def succeed(*argv):
        capsys.readouterr()
        status = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert status == 0, err
        return out

    return succeed


COMMANDS = (["eval"], ["predict"], ["info"], ["bench"], ["train", "--epochs", "5", "--resume"])
NESTED = b"[" * 100_000 + b"]" * 100_000


# ---- configurations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [NESTED, b'{"data":' * 50_000, b'{"data": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"[" * 2**21, b" " * 2**21, b"NaN"],
    ids=["nested", "tables", "digits", "bytes", "lists", "large", "NaN"],
)
def test_a_configuration_that_is_none_is_one_line(r, fails, text):
    (r / "config.json").write_bytes(text)
    for command in COMMANDS:
        assert "config.json" in fails(*command, "r")


VALUES = [
    None, True, -1, 0, 1.5, math.nan, math.inf, 1e300, 2**31 + 1, 2**64, 10**400, "", "x" * 10**5, "a\nb", "\0", [], {},
    "\x1b[2J", "\x85", "\ud800", "\udcff",
    [[]], [None], [0], [2**64], [1.0], [True], [1] * 2000, {"a": {}}, json.loads("[" * 300 + "]" * 300),
]  # fmt: skip


@pytest.mark.parametrize("command", [["info"], ["eval"]], ids=["info", "eval"])
def test_no_value_of_any_field_of_a_configuration_gives_a_traceback(r, command, capsys):
    config = json.loads((r / "config.json").read_text())
    refused = 0
    for field, value in itertools.product([*config, "more"], VALUES):
        (r / "config.json").write_text(json.dumps({**config, field: value}))
        status = main([*command, "r"])
        out, err = capsys.readouterr()
        assert all(line.isprintable() for line in (out + err).split("\n")), (field, value)
        if status:
            refused += 1
            assert (status, err[:15], err.count("\n"), out) == (2, "fastnn: error: ", 1, ""), (field, value)
            assert "codec" not in err, (field, value)
            assert len(err) < 2100, (field, value)
            assert field in err or "config.json" in err or ".safetensors does not fit" in err, (field, value)
    assert refused > 0.75 * (len(config) + 1) * len(VALUES)


def test_a_network_is_compared_with_its_weights_before_memory_is_taken(r, fails, monkeypatch):
    config = json.loads((r / "config.json").read_text())
    monkeypatch.setattr(fn.models, "mlp", lambda *_, **__: pytest.fail("this takes the memory"))
    for hidden in ([3_000_000], [2**31] * 1000, [1] * 1000):
        (r / "config.json").write_text(json.dumps({**config, "hidden": hidden}))
        for command in COMMANDS:
            assert "config.json has" in fails(*command, "r")


def test_a_run_without_weights_is_described_without_making_its_network(r, succeeds, monkeypatch):
    config = json.loads((r / "config.json").read_text())
    (r / "config.json").write_text(json.dumps({**config, "hidden": [2**31] * 3}))
    (r / "weights.safetensors").unlink()
    (r / "checkpoint.safetensors").unlink()
    assert "hidden: [2147483648, 2147483648, 2147483648]" in succeeds("info", "r")


# ---- weights and checkpoints -------------------------------------------------------------------------


def test_weights_of_lists_where_tables_belong_and_deep_ones_are_one_line(r, fails):
    for text in (b"[]", b'{"a":[]}', b'{"a":' * 50_000, NESTED, b'{"__metadata__":[]}', b"null", b'{"a":{"dtype":[]}}'):
        data = len(text).to_bytes(8, "little") + text
        (r / "weights.safetensors").write_bytes(data)
        (r / "checkpoint.safetensors").write_bytes(data)
        for command in COMMANDS:
            assert ".safetensors" in fails(*command, "r")


@pytest.mark.parametrize("text", ["[]", "null", "5", '"a"', "[" * 100_000, '{"a":' * 50_000, "{}", "\0"])
def test_a_checkpoint_of_other_json_is_one_line(r, fails, text):
    arrays, _ = fn.files.load_arrays(r / "checkpoint.safetensors")
    try:
        save_arrays(r / "checkpoint.safetensors", arrays, {"checkpoint": text})
    except ValueError:
        pytest.skip("no file can hold this")
    assert "checkpoint.safetensors is damaged" in fails("train", "--epochs", "5", "--resume", "r")


def test_flipped_bits_of_each_file_of_a_run_are_one_line_or_harmless(r, capsys):
    rng = np.random.default_rng(0)
    for name, command in (("weights.safetensors", ["eval"]), ("config.json", ["info"])):
        data = (r / name).read_bytes()
        for bit in rng.integers(8 * len(data), size=100):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            (r / name).write_bytes(damaged)
            status = main([*command, "r"])
            err = capsys.readouterr().err
            assert status == 2 or (status == 0 and name == "config.json"), (bit, err)
            assert err.count("\n") == (status == 2), err
        (r / name).write_bytes(data)


# ---- samples ---------------------------------------------------------------------------------------


def npy(header, data=b"\0" * 256, version=(1, 0)):
    text = header if isinstance(header, bytes) else header.encode()
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2 if version == (1, 0) else 4, "little") + text + data


def described(descr="'<f4'", order="False", shape="(1, 64)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


HEADERS = {
    "empty": "",
    "nested": "(" * 3000 + ")" * 3000,
    "nested in the shape": described(shape="(" * 500 + "1" + ",)" * 500),
    "brackets": "[" * 9000,
    "not closed": "{'descr': '<f4'",
    "a newline": "\n\n{\n",
    "null bytes": "\0" * 100,
    "an indentation": "   \t {'descr': '<f4'}",
    "a list as a key": "{[]: 1}",
    "a table as a key": "{{}: 1}",
    "a text": "'text'",
    "digits": described(shape=f"({'9' * 5000},)"),
    "not a literal": described(shape="(__import__('os').abort(),)"),
    "latin letters": b"{'\xff': 1}",
    "an escape": r"'\x'",
    "a name": r"'\N{none}'",
    "a bool in the shape": described(shape="(True, 64)"),
    "fields": described("'" + "f4," * 2000 + "f4'"),
    "a field that clears the screen": described("[('\x1b[2J', '<f4')]"),
    "negative": described(shape="(-1, 64)"),
    "two negative": described(shape="(-1, -64)"),
    "floats": described(shape="(1.0, 64)"),
    "no tuple": described(shape="64"),
    "overflow": described(shape=f"({2**62}, {2**62})"),
    "overflow to nothing": described(shape=f"({2**32}, {2**32}, 64)"),
    "much": described(shape=f"({2**40}, 64)"),
    "2**63": described(shape=f"({2**63}, 0)"),
    "axes": described(shape=f"({'1,' * 100})"),
    "zeros": described(shape=f"(0, {2**62}, {2**62})"),
    "objects": described("'|O'"),
    "objects in a record": described("[('a', '|O')]"),
    "a record": described("[('a', '<f4')]"),
    "nothing": described("'|V0'"),
    "text of nothing": described("'<U0'"),
    "no dtype": described("'none'"),
    "a list as dtype": described("[]"),
    "a number as dtype": described("5"),
    "None as dtype": described("None"),
    "order": described(order="5"),
    "dates": described("'<M8[s]'"),
    "too much": described() + " " * 60000,
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)], ids=str)
def test_a_header_that_pythons_parser_dislikes_is_one_line(r, fails, header, version):
    with open("a.npy", "wb") as file:
        file.write(npy(header, version=version))
    tracemalloc.start()
    try:
        line = fails("predict", "r", "a.npy")
        assert "a.npy" in line and len(line) < 500 and line.strip("\n").isprintable()
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [10_001, 2**16, 2**31, 2**32 - 1])
def test_no_memory_is_taken_for_a_header_that_is_only_announced(r, fails, length):
    with open("a.npy", "wb") as file:
        file.write(b"\x93NUMPY\2\0" + length.to_bytes(4, "little") + described().encode() + b" " * 20_000)
    tracemalloc.start()
    try:
        assert "a.npy: no intact .npy file" in fails("predict", "r", "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | st.text(alphabet="{}[]()'\":,descrshape0123456789fFalse \\\n", max_size=80))
def test_no_header_of_samples_gives_a_traceback(r, fails, header):
    with open("a.npy", "wb") as file:
        file.write(npy(header))
    fails("predict", "r", "a.npy")


def test_intact_samples_are_read_in_every_form(r, succeeds):
    images = fn.data.digits("test")[0][:6]
    expected = None
    forms = [images, images.astype(">f4"), np.asfortranarray(images), images.reshape(6, 64).astype("f8"),
             (images * 16).astype(np.uint8), (images * 16).astype(">i2")]  # fmt: skip
    for array in forms:
        for version in ((1, 0), (2, 0)):
            with open("a.npy", "wb") as file:
                np.lib.format.write_array(file, array, version)
            out = succeeds("predict", "r", "a.npy")
            expected = expected or out
            assert out == expected


# ---- data files -------------------------------------------------------------------------------------


def idx_header(*shape, code=8):
    return bytes([0, 0, code, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def bomb(path, header, megabytes):
    """What is announced, and then zeros: a thousandth of them on the disk."""
    with gzip.open(path, "wb", 1) as file:
        file.write(header)
        for _ in range(megabytes):
            file.write(b"\0" * 2**20)


def peak_of_refusal(function, match):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_unpacked_as_far_as_its_header_announces(folder):
    bomb("a.gz", idx_header(10, 10), 64)
    assert peak_of_refusal(lambda: read_idx("a.gz"), "a.gz: bytes follow after the end") < 2e6
    bomb("b.gz", idx_header(2**32 - 1, 2**20), 1)
    assert peak_of_refusal(lambda: read_idx("b.gz"), "b.gz: ends after 1048576 bytes") < 8e6


def test_what_is_no_mnist_is_refused_before_it_is_unpacked(folder):
    bomb("train-images-idx3-ubyte.gz", idx_header(2**26, 2, 1), 64)
    write_idx("train-labels-idx1-ubyte", np.zeros(10, np.uint8))
    wrong = "expected uint8 images"
    assert peak_of_refusal(lambda: mnist(root="."), wrong) < 2e6
    write_idx("train-images-idx3-ubyte", np.zeros((10, 28, 28), np.uint8))
    os.remove("train-labels-idx1-ubyte")
    bomb("train-labels-idx1-ubyte.gz", idx_header(2**26), 64)
    assert peak_of_refusal(lambda: mnist(root="."), "expected uint8 labels") < 2e6


# ---- the folder of the data --------------------------------------------------------------------------


def tiny_mnist(folder):
    os.makedirs(folder)
    rng = np.random.default_rng(0)
    for name, count in (("train", 50), ("t10k", 20)):
        write_idx(os.path.join(folder, f"{name}-images-idx3-ubyte"), rng.integers(0, 255, (count, 28, 28), np.uint8))
        write_idx(os.path.join(folder, f"{name}-labels-idx1-ubyte"), np.arange(count, dtype=np.uint8) % 10)
    return str(folder)


@pytest.fixture
def stranger(folder, succeeds, monkeypatch):
    """A run whose configuration names a folder, on a computer where nobody has named it."""
    data = tiny_mnist(folder / "data")
    succeeds("train", "--data", "mnist", "--hidden", "3", "--epochs", "1", "--data-dir", data, "--out", "r", "--json")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "another home"))
    return data


READERS = (["eval", "r"], ["predict", "r"], ["train", "--epochs", "2", "--resume", "r"])


def test_a_folder_that_only_the_configuration_names_is_not_looked_at(stranger, fails, monkeypatch):
    def unseen(look):
        def guarded(path):
            assert stranger not in str(path)
            return look(path)

        return guarded

    for name in ("isfile", "exists", "isdir"):
        monkeypatch.setattr(os.path, name, unseen(getattr(os.path, name)))
    for command in READERS:
        line = fails(*command)
        assert "config.json names the data folder" in line and stranger in line and "--data-dir" in line


def test_a_folder_is_read_once_the_user_has_named_it_and_from_then_on(stranger, fails, succeeds):
    fails(*READERS[0])
    expected = succeeds(*READERS[0], "--data-dir", stranger)
    assert succeeds(*READERS[0]) == expected
    for command in READERS[1:]:
        succeeds(*command)


def test_who_trains_with_a_folder_has_named_it(folder, succeeds):
    tiny_mnist(folder / "data")
    succeeds("train", "--data", "mnist", "--hidden", "3", "--epochs", "1", "--data-dir", "data", "--out", "r", "--json")
    os.rename("r", "moved")
    succeeds("eval", "moved")


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_to_is_no_error(folder, succeeds, monkeypatch):
    tiny_mnist(folder / "data")
    os.mkdir("home", 0o500)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home"))
    succeeds("train", "--data", "mnist", "--hidden", "3", "--epochs", "1", "--data-dir", "data", "--out", "r", "--json")


def test_data_in_the_run_folder_and_where_data_are_kept_are_read_unasked(folder, stranger, succeeds, monkeypatch):
    config = json.loads((folder / "r" / "config.json").read_text())
    shutil.copytree(stranger, folder / "r" / "data")
    (folder / "r" / "config.json").write_text(json.dumps({**config, "data_dir": str(folder / "r" / "data")}))
    succeeds(*READERS[0])
    (folder / "r" / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("FASTNN_DATA", stranger)
    succeeds(*READERS[0])


@pytest.mark.parametrize(
    "name", ["/dev", "/proc/self/fd", "//host/share", "\\\\host\\share", "relative", "../data", "~", "", "r/../data"]
)
def test_no_name_of_a_folder_leads_out(folder, stranger, fails, name):
    config = json.loads((folder / "r" / "config.json").read_text())
    (folder / "r" / "config.json").write_text(json.dumps({**config, "data_dir": name}))
    assert "config.json names the data folder" in fails(*READERS[0])


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX's")
def test_a_link_in_the_run_folder_does_not_lead_out(folder, stranger, fails):
    config = json.loads((folder / "r" / "config.json").read_text())
    (folder / "r" / "data").symlink_to(stranger)
    (folder / "r" / "config.json").write_text(json.dumps({**config, "data_dir": str(folder / "r" / "data")}))
    assert "config.json names the data folder" in fails(*READERS[0])


def test_a_folder_is_known_after_it_was_named_through_the_api_of_runs(folder, stranger):
    run = Run.open("r")
    assert run.data_folder(stranger) == stranger
    assert Run.open("r").data_folder(None) == stranger
