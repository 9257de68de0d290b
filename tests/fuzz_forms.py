"""Files that are no longer what they were: bytes changed at random, or parts changed and put together again.

A form takes a file apart into what JSON holds and bytes, and makes a file of such parts: offsets, lengths and
checksums are right again, so that readers go on to what was changed.
"""

import ast
import copy
import csv
import gzip
import io
import json
import math
import struct
import zlib

import numpy as np

from fastnn import files

#: What stands in place of others.
VALUES = [
    None, True, False, -1, 0, 1, 2, 5, 0.5, -0.0, math.nan, math.inf, -math.inf, 1e308, 1e-320, -(2**20), 255, 256,
    2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, -(10**400),
    "", "a", "1", "nan", "x" * 3000, "a\nb", "\x1b[2J", "\0", "\x85", "\u2028", "ä", "\ud800", "\udcff", "$x_{$", "%s",
    "F32", "F64", "F16", "BF16", "I64", "BOOL", "C64", "<f4", ">f8", "|O", "<U5", "mnist", "cifar10", "resnet20", "/",
    [], {}, [[]], [None], [0], [-1], [0, 2**62], [2**32, 2**32], [1] * 40, [0.9, 0.99], [math.nan], ["a"], {"a": 1},
    {"": {}}, {"a": []}, json.loads("[" * 60 + "]" * 60), b"", b"\0" * 8, b"\xff" * 8, b"\0\0\xc0\x7f" * 4,
]  # fmt: skip

INTEGERS = (0, 1, 7, 8, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS = (b"[", b"]", b"{", b"}", b'"', b"'", b"(", b",", b":", b"\n", b"-", b"9", b"e9", b"null", b"NaN", b"\\u0000")

#: What parts raise that no file can be made of.
UNFIT = (TypeError, ValueError, OSError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, EOFError,
         struct.error, zlib.error, csv.Error, SyntaxError)  # fmt: skip


def mutant(rng, data, form, change_bytes):
    """A file made of another: most often in its parts, where it has a form and can be taken apart."""
    if form is not None and rng.random() < 0.8:
        try:
            parts = form.parts(data)
            for _ in range(rng.choice((1, 1, 1, 2, 4))):
                parts = changed(rng, parts, change_bytes)
            return form.whole(parts)
        except UNFIT:
            pass
    return change_bytes(data)


def changed(rng, parts, change_bytes):
    """A copy of some parts in which one place is another."""
    parts = copy.deepcopy(parts)
    places = list(_places(parts))
    if not places:
        return rng.choice(VALUES)
    near = [(owner, key) for owner, key in places if isinstance(owner[key], (int, float, bytes))]
    if near and rng.random() < 0.4:  # most files so changed are accepted
        owner, key = rng.choice(near)
        owner[key] = _near(rng, owner[key])
        return parts
    owner, key = rng.choice(places)
    value, other = owner[key], copy.deepcopy(rng.choice(VALUES))
    action = rng.randrange(8)
    if action == 0:
        del owner[key]
    elif action == 1:
        owner[key] = other
    elif action == 2:  # what stands elsewhere
        source, name = rng.choice(places)
        owner[key] = copy.deepcopy(source[name])
    elif action == 3:  # once more, or something new
        added = copy.deepcopy(rng.choice((value, other)))
        if isinstance(owner, list):
            owner.insert(key, added)
        else:
            names = [name for _, name in places if isinstance(name, str)]
            owner[rng.choice([*names, f"{key}1", *(v for v in VALUES if isinstance(v, str))])] = added
    elif action == 4 and isinstance(owner, dict):  # another name
        items = list(owner.items())
        at = [name for name, _ in items].index(key)
        items[at] = (change_bytes(key.encode("utf-8", "surrogatepass")).decode("utf-8", "replace"), value)
        owner.clear()
        owner.update(items)
    else:
        owner[key] = _another(rng, value, other, change_bytes)
    return parts


def _places(parts):
    """Each container in some parts with each of its keys."""
    todo = [parts]
    while todo:
        owner = todo.pop()
        items = list(owner.items()) if isinstance(owner, dict) else list(enumerate(owner))
        for key, value in items:
            yield owner, key
            if isinstance(value, (dict, list)):
                todo.append(value)


def _near(rng, value):
    """Another value of the same type, and bytes of the same number."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, 2 * value, value // 2, 0, 1))
    if isinstance(value, float):
        return rng.choice((2 * value, -value, value / 2, value + 1, 0.0, 1.0, math.nan, math.inf, 1e300))
    at, size = rng.randrange(len(value) + 1), rng.choice((1, 2, 4, 8, len(value)))
    number = rng.choice((*INTEGERS, 0x7FC00000, 0x7F800000, 0x7FF0000000000000, 0x3F800000)) % 256 ** min(size, 8)
    new = number.to_bytes(min(size, 8), rng.choice(("little", "big"))) * (size // 8 + 1)
    return (value[:at] + new[:size] + value[at + size :])[: len(value)]


def _another(rng, value, other, change_bytes):
    """A value of the same kind."""
    if isinstance(value, bytes):
        return change_bytes(value)
    if isinstance(value, str):
        return change_bytes(value.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value // 2, float(value), value + 2**32, str(value)))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e300, value * 1e-300, value + 1, repr(value), [value]))
    if isinstance(value, list):
        shuffled = list(value)
        rng.shuffle(shuffled)
        return rng.choice((shuffled, value * 2, value[:-1], [value], {str(i): v for i, v in enumerate(value)}))
    if isinstance(value, dict):
        return rng.choice((list(value), list(value.values()), dict(reversed(value.items()))))
    return other


def random_bytes(rng, data):
    """Some bytes changed, added, left out or repeated; what libFuzzer does where it is there."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 30, len(data) // 2 + 1))
        action = rng.randrange(7)
        if action == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[at : at + length] = rng.randbytes(min(length, 64))
        elif action == 2:
            del data[at : at + length]
        elif action == 3:
            data[at:at] = rng.choice(TOKENS)
        elif action == 4:
            data[at:at] = data[at : at + length]
        elif action == 5:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(INTEGERS) % 256**size
            data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        else:
            del data[at:]
    return bytes(data)


# ---- forms ------------------------------------------------------------------------------------------


class Json:
    """A file that is JSON."""

    @staticmethod
    def parts(data):
        return json.loads(data)

    @staticmethod
    def whole(parts):
        return _text(parts).encode()


class Safetensors:
    """The header's table with each tensor's bytes in place of its offsets; checkpoints' JSON is taken apart, too."""

    @staticmethod
    def parts(data):
        end = 8 + int.from_bytes(data[:8], "little")
        table = json.loads(data[8:end])
        for entry in table.values():
            if "data_offsets" in entry:
                begin, stop = entry.pop("data_offsets")
                entry["data"] = data[end + begin : end + stop]
        metadata = table.get("__metadata__", {})
        if "checkpoint" in metadata:
            metadata["checkpoint"] = json.loads(metadata["checkpoint"])
        return table

    @staticmethod
    def whole(parts):
        header, contents = {}, b""
        for name, entry in parts.items():
            if isinstance(entry, dict) and isinstance(entry.get("data"), bytes):
                offsets = [len(contents), len(contents) + len(entry["data"])]
                contents += entry["data"]
                entry = {"data_offsets": offsets, **{k: v for k, v in entry.items() if k != "data"}}
            header[name] = entry
        if isinstance(header.get("__metadata__"), dict):
            header["__metadata__"] = _signed(header["__metadata__"], parts)
        text = _text(header).encode()
        return len(text).to_bytes(8, "little") + text + contents


def _signed(metadata, parts):
    """The metadata with the checksum of a model, or of a checkpoint, that fits the tensors."""
    try:
        arrays = {name: _array(entry) for name, entry in parts.items() if name != "__metadata__"}
    except UNFIT:  # no reader comes as far as the checksum
        arrays = {}
    metadata = dict(metadata)
    content = metadata.get("checkpoint")
    if isinstance(content, dict):
        content = json.loads(_text({k: v for k, v in content.items() if k != "crc32"}))
        content["crc32"] = _crc(json.dumps(content), arrays)
        metadata["checkpoint"] = json.dumps(content)
    elif content is not None:
        metadata["checkpoint"] = _text(content)
    if files._DIGEST in metadata:
        metadata[files._DIGEST] = _crc(files._digested(metadata), arrays)
    return metadata


def _crc(text, arrays):
    try:
        return files.checksum(text, arrays)
    except UnicodeEncodeError:  # names that no file of fastnn's has
        return "0" * 8


def _array(entry):
    array = np.frombuffer(entry["data"], files._DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return (array.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else array


class Idx:
    """Magic bytes, lengths, elements, and whether they are compressed."""

    @staticmethod
    def parts(data):
        packed = data[:2] == b"\x1f\x8b"
        data = gzip.decompress(data) if packed else data
        end = 4 + 4 * data[3]
        lengths = [int.from_bytes(data[at : at + 4], "big") for at in range(4, end, 4)]
        return {"packed": packed, "magic": list(data[:4]), "lengths": lengths, "elements": data[end:]}

    @staticmethod
    def whole(parts):
        lengths = b"".join((length % 2**32).to_bytes(4, "big") for length in parts["lengths"])
        data = bytes(byte % 256 for byte in parts["magic"]) + lengths + parts["elements"]
        return gzip.compress(data, 1, mtime=0) if parts["packed"] else data


class Cifar:
    """Records of `labels` label bytes and 3072 pixels."""

    def __init__(self, labels):
        self.labels = labels

    def parts(self, data):
        size = self.labels + 3072
        rows = [data[at : at + size] for at in range(0, len(data), size)]
        return [{"labels": list(row[: self.labels]), "pixels": row[self.labels :]} for row in rows]

    def whole(self, parts):
        return b"".join(bytes(byte % 256 for byte in row["labels"]) + row["pixels"] for row in parts)


class Npy:
    """Version, header and data of a .npy file."""

    @staticmethod
    def parts(data):
        start = 10 if data[6] == 1 else 12
        end = start + int.from_bytes(data[8:start], "little")
        header = ast.literal_eval(data[start:end].decode("latin-1"))
        header["shape"] = list(header["shape"])
        return {"version": list(data[6:8]), "header": header, "data": data[end:]}

    @staticmethod
    def whole(parts):
        header = dict(parts["header"])
        if isinstance(header.get("shape"), list):
            header["shape"] = tuple(header["shape"])
        text = repr(header).encode("latin-1", "replace") + b"\n"
        version = bytes(list(parts["version"]))
        return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + parts["data"]


class Csv:
    """Rows of cells."""

    @staticmethod
    def parts(data):
        return [list(row) for row in csv.reader(io.StringIO(data.decode()))]

    @staticmethod
    def whole(parts):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(parts)
        return text.getvalue().encode("utf-8", "surrogatepass")


class Png:
    """Chunks, those of pixels unpacked."""

    @staticmethod
    def parts(data):
        chunks, at = [], 8
        while at < len(data):
            length, name = struct.unpack(">I4s", data[at : at + 8])
            body = data[at + 8 : at + 8 + length]
            chunks.append({"name": name, "body": zlib.decompress(body) if name == b"IDAT" else body})
            at += 12 + length
        return chunks

    @staticmethod
    def whole(parts):
        data = b"\x89PNG\r\n\x1a\n"
        for chunk in parts:
            name = chunk["name"][:4]
            body = zlib.compress(chunk["body"], 1) if name == b"IDAT" else chunk["body"]
            data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        return data


def _text(value):
    """JSON; bytes that were put among it become letters."""
    return json.dumps(value, default=lambda data: data.decode("latin-1"), separators=(",", ":"))
