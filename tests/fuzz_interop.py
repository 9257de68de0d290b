"""Readers of other systems' files, and their forms, for tests/test_interop_fuzz.py: see tests/fuzz_readers.py."""

import io
import struct
import zipfile

import numpy as np

import fastnn as fn
from fastnn import nn
from fastnn.interop import hdf5

import fuzz_forms as forms
from fuzz_readers import Reader, bytes_of
from interop_files import Sizes, caffemodel, module, t7

RNG = np.random.default_rng(5)


def array(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


# ---- Torch7 -----------------------------------------------------------------------------------------


class T7:
    """A binary file as a tree: [tag, content, ...]; a reference has an index alone."""

    def __init__(self, long=8):
        self.long = long

    def parts(self, data):
        self.data, self.at, self.seen = data, 0, set()
        return self.value()

    def take(self, form):
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return list(found)

    def text(self):
        length = self.take("i")[0]
        return self.take(f"{length}s")[0]

    def longs(self, count):
        return self.take(f"{count}{'q' if self.long == 8 else 'i'}")

    def value(self):
        tag = self.take("i")[0]
        if tag == 0:
            return {"tag": 0}
        if tag in (1, 2, 5):
            return {
                "tag": tag,
                "content": self.take("d")[0] if tag == 1 else self.text() if tag == 2 else self.take("i")[0],
            }
        index = self.take("i")[0]
        if index in self.seen:
            return {"tag": tag, "index": index}
        self.seen.add(index)
        if tag == 3:
            count = self.take("i")[0]
            return {"tag": 3, "index": index, "count": count, "entries": [self.value() for _ in range(2 * count)]}
        version, kind = self.text(), self.text()
        found = {"tag": 4, "index": index, "version": version, "kind": kind}
        if kind.endswith(b"Storage"):
            size = self.longs(1)[0]
            width = 4 if b"Float" in kind or kind == b"torch.CudaStorage" else 8 if b"Double" in kind else self.long
            return found | {"size": size, "numbers": self.take(f"{size * width}s")[0]}
        if kind.endswith(b"Tensor"):
            count = self.take("i")[0]
            return found | {"dims": count, "places": self.longs(2 * count + 1), "storage": self.value()}
        return found | {"fields": self.value()}

    def whole(self, parts):
        whole = self.whole
        data = struct.pack("<i", parts["tag"])
        if "content" in parts:
            content = parts["content"]
            if isinstance(content, bytes):
                return data + struct.pack("<i", len(content)) + content
            return data + struct.pack("<d" if isinstance(content, float) else "<i", content)
        if "index" in parts:
            data += struct.pack("<i", parts["index"])
        if "entries" in parts:
            return data + struct.pack("<i", parts["count"]) + b"".join(whole(entry) for entry in parts["entries"])
        for name in ("version", "kind"):
            if name in parts:
                data += struct.pack("<i", len(parts[name])) + parts[name]
        code = "q" if self.long == 8 else "i"
        if "numbers" in parts:
            return data + struct.pack(f"<{code}", parts["size"]) + parts["numbers"]
        if "places" in parts:
            places = struct.pack(f"<{len(parts['places'])}{code}", *parts["places"])
            return data + struct.pack("<i", parts["dims"]) + places + whole(parts["storage"])
        return data + (whole(parts["fields"]) if "fields" in parts else b"")


def network():
    norm = dict(running_mean=array(2), running_var=abs(array(2)) + 1, weight=array(2), bias=array(2), eps=1e-5)
    conv = dict(nInputPlane=1, nOutputPlane=2, kW=3, kH=3, dW=1, dH=1, padW=1, padH=1)
    pool = dict(kW=2, kH=2, dW=2, dH=2, ceil_mode=True)
    branches = module("ConcatTable", modules=[module("Identity"), module("Tanh")])
    return module("Sequential", modules=[
        module("SpatialConvolution", **conv, weight=array(2, 1, 3, 3), bias=array(2)),
        module("SpatialBatchNormalization", **norm), module("ReLU"), module("SpatialMaxPooling", **pool),
        branches, module("JoinTable", dimension=1, nInputDims=3), module("Dropout", p=0.5, v2=True),
        module("View", size=Sizes((-1,)), numInputDims=3, numElements=1),
        module("Linear", weight=array(3, 16, dtype=np.float64), bias=array(3, dtype=np.float64)), module("LogSoftMax"),
    ])  # fmt: skip


class Torch7(Reader):
    """`load_torch7` of binary files."""

    form = T7()
    file = "a.t7"

    def seeds(self):
        yield t7(network())
        yield t7({"model": module("Linear", weight=array(2, 3), bias=array(2)), "epoch": 3})
        yield t7(module("LookupTable", weight=array(4, 2)), room="torch.Cuda")

    def read(self):
        fn.interop.load_torch7(self.path)


class Torch7Of32Bits(Torch7):
    """`load_torch7` of binary files with longs of 4 bytes."""

    form = T7(4)

    def seeds(self):
        yield t7(network(), long=4)


class Lines:
    """A file of words in lines."""

    @staticmethod
    def parts(data):
        return [line.split(" ") for line in data.decode("latin-1").split("\n")]

    @staticmethod
    def whole(parts):
        return "\n".join(" ".join(map(str, line)) for line in parts).encode("utf-8", "surrogatepass")


class Torch7Ascii(Torch7):
    """`load_torch7` of text."""

    form = Lines

    def seeds(self):
        yield t7(network(), ascii=True)
        yield t7({"model": module("Threshold", threshold=0.5, val=1)}, ascii=True)


# ---- Caffe ------------------------------------------------------------------------------------------

PROTOTXT = """name: "net"
input: "data"
input_shape { dim: 1 dim: 1 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 1 }
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" relu_param { negative_slope: 0.1 } }
layer { name: "pool" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "cut" type: "Slice" bottom: "p" top: "s" top: "t" slice_param { slice_point: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "s" bottom: "t" top: "e" eltwise_param { coeff: 1 coeff: -2 } }
layer { name: "shape" type: "Reshape" bottom: "e" top: "r" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "r" top: "f" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "f" top: "prob" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss" }
"""
OLD = """layers { name: "conv" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
layers { name: "lrn" type: LRN bottom: "c" top: "l" lrn_param { local_size: 3 alpha: 0.1 } }
layers { name: "pool" type: POOLING bottom: "l" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
layers { name: "drop" type: DROPOUT bottom: "p" top: "p" dropout_param { dropout_ratio: 0.4 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "p" top: "f" inner_product_param { num_output: 3 bias_term: false } }
"""


def weights():
    return {
        "conv": [array(2, 1, 3, 3), array(2)], "bn": [array(2), abs(array(2)), np.float32([2])],
        "scale": [array(2), array(2)], "fc": [array(3, 16), array(3, dtype=np.float64)],
    }  # fmt: skip


class Prototxt(Reader):
    """`load_caffe` of a prototxt, without weights."""

    form = Lines
    file = "a.prototxt"
    needs = "google.protobuf"
    memory = 2**25

    def seeds(self):
        yield PROTOTXT.encode()
        yield ('input: "data" input_dim: 1 input_dim: 1 input_dim: 6 input_dim: 6\n' + OLD).encode()

    def read(self):
        fn.interop.load_caffe(self.path)


class PrototxtWithWeights(Prototxt):
    """`load_caffe` of a prototxt whose weights are there."""

    def prepare(self):
        self.weights = self.folder / "a.caffemodel"
        self.weights.write_bytes(caffemodel(weights()))

    def seeds(self):
        yield PROTOTXT.encode()
        yield ('input: "data"\n' + OLD).encode()

    def read(self):
        fn.interop.load_caffe(self.path, self.weights)


class Wire:
    """A message of protobuf as a list of its fields, with messages within it where these are known to be."""

    #: Fields that are messages, by the way to them.
    inner = {(): (2, 100), (2,): (6,), (100,): (7,), (2, 6): (7,), (100, 7): (7,)}

    def parts(self, data, way=()):
        found, at = [], 0

        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value

        while at < len(data):
            key = varint()
            number, wire = key >> 3, key & 7
            size = {0: 0, 1: 8, 5: 4}.get(wire)
            value = varint() if wire in (0, 2) else 0
            if wire != 0:
                size = value if wire == 2 else size
                value = data[at : at + size]
                at += size
            if wire == 2 and number in self.inner.get(way, ()):
                value = self.parts(value, (*way, number))
            found.append({"number": number, "wire": wire, "value": value})
        return found

    def whole(self, parts):
        def varint(value):
            value %= 2**64
            data = b""
            while value > 127:
                data += bytes([value & 127 | 128])
                value >>= 7
            return data + bytes([value])

        data = b""
        for field in parts:
            data += varint(field["number"] << 3 | field["wire"] & 7)
            value = field["value"]
            value = self.whole(value) if isinstance(value, list) else value
            data += varint(value) if field["wire"] == 0 else (varint(len(value)) if field["wire"] == 2 else b"") + value
        return data


class Caffemodel(Reader):
    """`load_caffe` of a caffemodel."""

    form = Wire()
    file = "a.caffemodel"
    needs = "google.protobuf"

    def prepare(self):
        self.text = self.folder / "a.prototxt"
        self.text.write_text(PROTOTXT)

    def seeds(self):
        yield caffemodel(weights())
        yield caffemodel(weights(), old=True)

    def read(self):
        fn.interop.load_caffe(self.text, self.path)


# ---- arrays into models -----------------------------------------------------------------------------


class Npz:
    """The members of a .npz file, each as tests/fuzz_forms.py has a .npy file."""

    @staticmethod
    def parts(data):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return {name: forms.Npy.parts(archive.read(name)) for name in archive.namelist()}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise ValueError(str(error)) from None

    @staticmethod
    def whole(parts):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, member in parts.items():
                archive.writestr(zipfile.ZipInfo(name), forms.Npy.whole(member))
        return file.getvalue()


def saved_npz(arrays):
    parts = {}
    for i, values in enumerate(arrays):
        file = io.BytesIO()
        np.save(file, values)
        parts[f"arr_{i}.npy"] = forms.Npy.parts(file.getvalue())
    return Npz.whole(parts)


class Lasagne(Reader):
    """`load_lasagne`."""

    form = Npz
    file = "a.npz"

    def prepare(self):
        fn.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))

    def seeds(self):
        shapes = [(2, 1, 3, 3), (2,), (2,), (2,), (2,), (2,), (8, 3), (3,)]
        for dtype in (np.float32, np.float64):
            yield saved_npz([abs(array(*shape, dtype=dtype)) + 0.1 for shape in shapes])

    def read(self):
        fn.interop.load_lasagne(self.path, self.model)

    def state(self):
        return bytes_of(self.model.state_dict())


class Hdf5:
    """The datasets of a file."""

    @staticmethod
    def parts(data):
        try:
            file = hdf5.Hdf5(data)
            arrays = {key: file.array(key).read() for key in file.names("")}
        except hdf5.Damage as damage:
            raise ValueError(str(damage)) from None
        return {key: {"dtype": a.dtype.str, "shape": list(a.shape), "data": a.tobytes()} for key, a in arrays.items()}

    @staticmethod
    def whole(parts):
        import h5py

        memory = io.BytesIO()
        with h5py.File(memory, "w", track_order=True) as file:
            for key, value in parts.items():
                file[key] = np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"])
        return memory.getvalue()


class Mocha(Lasagne):
    """`load_mocha`."""

    form = Hdf5
    file = "a.hdf5"
    needs = "h5py"

    def prepare(self):
        fn.manual_seed(0)
        self.model = nn.Sequential({"conv1": nn.Conv2d(1, 2, 3), "ip1": nn.Linear(8, 3)})

    def seeds(self):
        shapes = {
            "conv1___filter": (2, 1, 3, 3),
            "conv1___bias": (1, 2, 1),
            "ip1___weight": (3, 8),
            "ip1___bias": (1, 3),
        }
        for dtype in (np.float32, np.float64):
            arrays = {key: array(*shape, dtype=dtype) for key, shape in shapes.items()}
            yield Hdf5.whole(
                {key: {"dtype": a.dtype.str, "shape": list(a.shape), "data": a.tobytes()} for key, a in arrays.items()}
            )

    def read(self):
        fn.interop.load_mocha(self.path, self.model)


READERS = {
    "torch7": Torch7,
    "torch7-32": Torch7Of32Bits,
    "torch7-ascii": Torch7Ascii,
    "prototxt": Prototxt,
    "prototxt-with-weights": PrototxtWithWeights,
    "caffemodel": Caffemodel,
    "lasagne": Lasagne,
    "mocha": Mocha,
}
