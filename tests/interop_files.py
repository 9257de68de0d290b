"""Files of other systems, written for tests: Torch7's .t7, and Caffe's prototxt and caffemodel."""

import struct

import numpy as np

# ---- Torch7 -----------------------------------------------------------------------------------------

KINDS = {
    "u1": "Byte", "i1": "Char", "i2": "Short", "i4": "Int", "i8": "Long", "f4": "Float", "f8": "Double", "f2": "Half",
}  # fmt: skip


class Thing:
    """An object of a class of Torch7's: a table of fields under a name."""

    def __init__(self, kind, **fields):
        self.kind = kind
        self.fields = {name.removesuffix("_"): value for name, value in fields.items() if value is not None}


class Code:
    """A function, written under one of its tags."""

    def __init__(self, tag=8):
        self.tag = tag


class Sizes(tuple):
    """A LongStorage."""


class View:
    """A tensor that lies within an array as NumPy's view does."""

    def __init__(self, array):
        self.array = array


def module(kind, **fields):
    """A layer; `modules` is a list of layers."""
    if "modules" in fields:
        fields["modules"] = dict(enumerate(fields["modules"], 1))
    return Thing(kind if "." in kind else f"nn.{kind}", train=False, **fields)


class Writer:
    """Torch7's serialization, as torch/torch7's File.lua has it.

    Parameters
    ----------
    ascii : bool
    long : int
        Bytes of a long in a binary file.
    room : str
        What stands before the names of tensors' classes: "torch.", "torch.Cuda" or "torch.Cl".
    """

    def __init__(self, ascii=False, long=8, room="torch.", versions=True):
        self.ascii, self.size, self.room, self.versions = ascii, long, room, versions
        self.data, self.seen, self.kept = b"", {}, []

    def int(self, *values):
        if self.ascii:
            self.data += b"".join(b"%d\n" % value for value in values)
        else:
            self.data += struct.pack(f"<{len(values)}i", *values)

    def long(self, *values):
        if self.ascii:
            self.data += b" ".join(b"%d" % value for value in values) + (b"\n" if values else b"")
        else:
            self.data += struct.pack(f"<{len(values)}{'q' if self.size == 8 else 'i'}", *values)

    def text(self, value):
        value = value if isinstance(value, bytes) else value.encode("latin-1")
        self.int(len(value))
        self.data += value + (b"\n" if self.ascii and value else b"")

    def numbers(self, array):
        if not self.ascii:
            narrow = array.astype(f"<i{self.size}") if array.dtype == np.int64 else array
            self.data += narrow.tobytes()
        elif array.dtype.itemsize == 1:
            self.data += array.tobytes() + (b"\n" if array.size else b"")
        elif array.size:
            form = "%d" if array.dtype.kind in "iu" else "%.9g" if array.dtype != np.float64 else "%.17g"
            self.data += " ".join(form % value for value in array.tolist()).encode() + b"\n"

    def new(self, tag, value):
        """The tag and index of something that may be referred to; whether its content follows."""
        self.int(tag)
        known = id(value) in self.seen
        self.kept.append(value)
        self.int(self.seen.setdefault(id(value), len(self.seen) + 1))
        return not known

    def header(self, kind):
        if self.versions:
            self.text("V 1")
        self.text(kind)

    def storage(self, array):
        if self.new(4, array):
            plain = "" if self.room != "torch." and array.dtype == np.float32 else KINDS[array.dtype.str[1:]]
            self.header(f"{self.room}{plain}Storage")
            self.long(array.size)
            self.numbers(array)

    def tensor(self, value):
        """An array lies in a storage of its own; a View in that of the array that it is of."""
        array = value.array if isinstance(value, View) else np.ascontiguousarray(value)
        if not self.new(4, value):
            return
        plain = "" if self.room != "torch." and array.dtype == np.float32 else KINDS[array.dtype.str[1:]]
        self.header(f"{self.room}{plain}Tensor")
        base = array.base if isinstance(value, View) else array.reshape(-1)
        self.int(array.ndim)
        self.long(*array.shape)
        self.long(*(stride // array.itemsize for stride in array.strides))
        place = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        self.long(1 + place // array.itemsize)
        if array.size:
            self.storage(base)
        else:
            self.int(0)

    def value(self, value):
        if value is None:
            self.int(0)
        elif isinstance(value, bool):
            self.int(5, int(value))
        elif isinstance(value, (int, float)):
            self.int(1)
            self.data += b"%.17g\n" % value if self.ascii else struct.pack("<d", value)
        elif isinstance(value, (str, bytes)):
            self.int(2)
            self.text(value)
        elif isinstance(value, Code):
            if value.tag == 6:
                self.int(6)
            elif not self.new(value.tag, value):
                return
            self.text(b"\x1bLJ")
            self.value({})
        elif isinstance(value, Sizes):
            self.storage(np.array(value, np.int64))
        elif isinstance(value, dict):
            if self.new(3, value):
                self.int(len(value))
                for key, entry in value.items():
                    self.value(key)
                    self.value(entry)
        elif isinstance(value, Thing):
            if self.new(4, value):
                self.header(value.kind)
                self.value(value.fields)
        elif isinstance(value, (np.ndarray, View)):
            self.tensor(value)
        else:
            raise TypeError(type(value))
        return self.data


def t7(value, **form):
    """The bytes of a .t7 file."""
    return Writer(**form).value(value)


# ---- Caffe ------------------------------------------------------------------------------------------


def caffemodel(weights, old=False):
    """The bytes of a caffemodel with these arrays by layer, in the new form or the old one."""
    from fastnn.interop.caffe.proto import net_parameter

    net = net_parameter()()
    for name, blobs in weights.items():
        layer = (net.layers if old else net.layer).add(name=name)
        for array in map(np.asarray, blobs):
            blob = layer.blobs.add()
            if old:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
            else:
                blob.shape.dim.extend(array.shape)
            (blob.double_data if array.dtype == np.float64 else blob.data).append(array.tobytes())
    return net.SerializeToString()
