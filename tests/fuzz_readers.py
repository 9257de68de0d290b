"""Everything in fastnn that reads files, given bytes that nobody meant: SECURITY.md's promises hold for any.

A reader takes the bytes of a file, lets fastnn read them, and judges what happens. The file may be accepted. If it
is refused, that is done by one ValueError (on the command line by one line and status 2) that is short, can be
printed and names the file, and what was to be loaded is as before. No file takes more than a second, or much more
memory than it has bytes. Anything else is a finding: an exception goes on its way.

    python tests/fuzz_readers.py resume -max_total_time=600     # guided by coverage, needs atheris
    python tests/fuzz_readers.py resume crash-0123              # one file again
"""

import collections
import contextlib
import functools
import gzip
import io
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
import zlib

if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["fastnn", "gzip", "numpy.lib", "PIL"], enable_loader_override=False):
        import fastnn.cli.options
        import fastnn.plotting

        with contextlib.suppress(ImportError):
            import PIL.Image
            import PIL.ImageOps

            PIL.Image.init()

import numpy as np

import fastnn as fn
from fastnn import nn, optim, plotting
from fastnn.cli import main as command_line
from fastnn.cli import options
from fastnn.data import DataLoader
from fastnn.interop.files import kind_of
from fastnn.train import callbacks

import fuzz_forms as forms
import keras_files

LONGEST = 1000  # characters of a message
FACTOR = 40  # bytes of memory for each that is there, beside a few MiB


class Finding(Exception):
    """A promise that was not kept."""


class Reader:
    """One way to read a file.

    Parameters
    ----------
    folder : Path
        An empty one.
    """

    form = None
    file = "a"
    #: Of the reading thread's own time that a file may take.
    seconds = 1.0
    #: Bytes of memory that any file may take.
    memory = 2**23
    #: The module that it needs beside fastnn.
    needs = "fastnn"

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / self.file
        self.endings = {"accepted": 0, "refused": 0}
        self.slowest = self.largest = (0, b"")
        self.prepare()
        self.corpus = list(self.seeds())
        self.accepted = collections.deque(maxlen=100)

    def prepare(self):
        """Make what is there beside the file; called again after a file that was accepted."""

    def seeds(self):
        """Files to begin with, of which the first is accepted."""
        raise NotImplementedError

    def read(self):
        """Read the file; ValueError where fastnn refuses it."""
        raise NotImplementedError

    def state(self):
        """What must be as before when the file is refused."""

    def size(self, data):
        """How many bytes are there, unpacked."""
        return len(data)

    def __call__(self, data):
        most = self.memory + FACTOR * self.size(data)
        seconds, peak = self.tried(data)
        if seconds > self.seconds or peak > most:  # what is imported or kept at first use is not the file's fault
            seconds, peak = self.tried(data)
        self.slowest, self.largest = max(self.slowest, (seconds, data)), max(self.largest, (peak, data))
        if seconds > self.seconds:
            raise Finding(f"a file of {len(data)} bytes took {seconds:.1f} s")
        if peak > most:
            raise Finding(f"a file of {self.size(data)} bytes took {peak} bytes of memory")

    def tried(self, data):
        """Seconds and bytes of memory that it takes to read a file."""
        self.path.write_bytes(data)
        before, refusal = self.state(), None
        tracemalloc.reset_peak()
        memory, start = tracemalloc.get_traced_memory()[0], time.thread_time()
        try:
            self.read()
        except ValueError as error:
            refusal = str(error)
        seconds, peak = time.thread_time() - start, tracemalloc.get_traced_memory()[1] - memory
        self.endings["accepted" if refusal is None else "refused"] += 1
        if refusal is None:
            self.accepted.append(data)
            self.prepare()
        else:
            self.judge(refusal)
            if self.state() != before:
                raise Finding(f"a file that was refused changed what was there: {refusal}")
        return seconds, peak

    def mutant(self, rng, change_bytes, data=None):
        """A file made of some data, or of a file that is accepted: of those that are refused most are refused again."""
        if data is None or rng.random() < 0.6:
            data = rng.choice(self.accepted if self.accepted and rng.random() < 0.5 else self.corpus)
        return forms.mutant(rng, data, self.form, change_bytes)

    def summary(self):
        (seconds, slow), (peak, large) = self.slowest, self.largest
        return (
            f"{self.endings}; slowest {seconds:.3f} s for {len(slow)} bytes; most memory {peak} bytes for {len(large)}"
        )

    def judge(self, refusal):
        text = refusal.replace(str(self.folder), "")
        if text == refusal:
            raise Finding(f"no file is named: {refusal[:LONGEST]!r}")
        if len(text) > LONGEST or not text.isprintable():
            raise Finding(f"no short text that can be printed: {refusal!r}")

    def saved(self, save):
        """The bytes of a file that a function writes."""
        save(self.path)
        return self.path.read_bytes()


# ---- models and checkpoints -------------------------------------------------------------------------


def bytes_of(arrays):
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


class Model(Reader):
    """`Module.load`."""

    form = forms.Safetensors
    strict = True

    def prepare(self):
        fn.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))

    def seeds(self):
        arrays = self.model.state_dict()
        wide = {name: array.astype(np.float64) for name, array in arrays.items()}
        half = {name: array.astype(np.float16) for name, array in arrays.items()}
        yield self.saved(self.model.save)
        for other in (wide, half):
            yield self.saved(functools.partial(fn.files.save_arrays, arrays=other, metadata={"format": "pt"}))
        parts = forms.Safetensors.parts(self.path.read_bytes())
        for entry in parts.values():
            if entry.get("dtype") == "F16":
                entry["dtype"] = "BF16"
        yield forms.Safetensors.whole(parts)

    def read(self):
        self.model.load(self.path, strict=self.strict)

    def state(self):
        return bytes_of(self.model.state_dict())


class PartOfModel(Model):
    """`Module.load` of what fits."""

    strict = False

    def seeds(self):
        yield from super().seeds()
        arrays = {"0.bias": np.ones(3, np.int32), "more": np.ones((2, 0), bool)}
        yield self.saved(functools.partial(fn.files.save_arrays, arrays=arrays, metadata={}))


class Checkpoint(Reader):
    """`load_checkpoint`."""

    form = forms.Safetensors

    def prepare(self):
        fn.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.2), nn.Linear(3, 2))
        self.optimizer = self.make_optimizer(list(self.model.parameters()))
        self.data = fn.data.moons(40, seed=0)
        self.loader = DataLoader(self.data, batch_size=10, shuffle=True, seed=1)

    def make_optimizer(self, params):
        return optim.AdamW([{"params": params[:1], "lr": 0.1}, {"params": params[1:], "betas": (0.8, 0.9)}])

    def seeds(self):
        extra = {"a": [1, None]}
        save = functools.partial(fn.save_checkpoint, model=self.model, loader=self.loader, step=3, epoch=1, extra=extra)
        yield self.saved(functools.partial(save, optimizer=self.optimizer, history={"loss": [0.5]}))
        yield self.saved(functools.partial(save, optimizer=self.optimizer, arrays={"a": np.arange(3.0)}))

    def read(self):
        fn.load_checkpoint(self.path, self.model, self.optimizer, loader=self.loader)

    def state(self):
        saved = self.optimizer.state_dict()
        return (
            bytes_of(self.model.state_dict()),
            [bytes_of(arrays) for arrays in saved["state"]],
            json.dumps([saved["groups"], fn.get_rng_state(), self.loader.state_dict()]),
        )


def timeless(checkpoint):
    """A checkpoint that is the same however fast this machine is."""
    parts = forms.Safetensors.parts(checkpoint)
    speeds = parts["__metadata__"]["checkpoint"]["history"]["samples_per_second"]
    speeds[:] = [1000.5] * len(speeds)
    return forms.Safetensors.whole(parts)


class Resume(Checkpoint):
    """`Trainer.fit(resume=)`, and the rest of the training."""

    def prepare(self):
        super().prepare()
        self.trainer = fn.Trainer(self.model, nn.CrossEntropyLoss(), self.optimizer, accumulate=4)
        self.stopping = callbacks.EarlyStopping(patience=5, restore_best=True)
        self.chain = [
            self.stopping,
            fn.train.Monitor(by="step", bins=2),
            callbacks.ModelCheckpoint(self.folder / "best", best_only=True),
            callbacks.ModelCheckpoint(self.folder / "last"),
            callbacks.CSVLogger(self.folder / "history.csv"),
        ]

    def make_optimizer(self, params):
        return optim.SGD(params, lr=0.05, momentum=0.9)

    def seeds(self):
        def keep(place, batch, logs):
            if (self.trainer.epoch, batch) == place:
                self.trainer.save_checkpoint(self.path)

        for place in ((1, 1), (2, 3)):
            self.prepare()
            self.chain.append(callbacks.LambdaCallback(on_batch_end=functools.partial(keep, place)))
            self.fit()
            yield timeless(self.path.read_bytes())
        self.prepare()

    def fit(self, resume=None):
        self.trainer.fit(
            self.data, validation_data=self.data, epochs=3, batch_size=10, seed=4, verbose=False,
            callbacks=self.chain, resume=resume,
        )  # fmt: skip

    def read(self):
        with contextlib.suppress(FloatingPointError):  # what numbers do is not promised
            self.fit(self.path)

    def state(self):
        return (*super().state(), self.stopping.best, self.stopping.wait, self.trainer.epoch)


# ---- data -------------------------------------------------------------------------------------------


def idx(array):
    """An IDX file of bytes."""
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


class ReadIdx(Reader):
    """`read_idx`."""

    form = forms.Idx

    def seeds(self):
        for array in (np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 3, 2), np.int16), np.arange(5.0)):
            yield self.saved(functools.partial(fn.data.write_idx, array=array))
        yield idx(np.zeros((2, 4, 4), np.uint8))
        yield gzip.compress(idx(np.arange(40, dtype=np.uint8)), mtime=0)

    def read(self):
        fn.data.read_idx(self.path)

    def size(self, data):
        """What is unpacked as far as the header announces is the writer's wish, down to a thousandth of it."""
        try:
            return len(gzip.decompress(data))
        except (OSError, EOFError, zlib.error):
            return len(data) * (1032 if data[:2] == b"\x1f\x8b" else 1)


class ReadNpy(Reader):
    """`read_npy`."""

    form = forms.Npy
    file = "a.npy"

    def seeds(self):
        for array in (np.ones((2, 8), np.uint8), np.asfortranarray(np.ones((3, 4), ">f4")), np.array(["a", "bc"])):
            yield self.saved(functools.partial(np.save, arr=array))

    def read(self):
        fn.data.read_npy(self.path, "biufU")


class ReadNpz(Reader):
    """`read_npz`."""

    file = "a.npz"

    def seeds(self):
        for save in (np.savez, np.savez_compressed):
            yield self.saved(functools.partial(save, x=np.arange(12.0).reshape(3, 4), y=np.arange(3)))

    def read(self):
        fn.data.read_npz(self.path)

    def size(self, data):
        """What is unpacked as far as the headers announce is the writer's wish, down to a thousandth of it."""
        return len(data) * 1032


TABLE = b"rooms,district,price\n3,north,310.5\n5,south,520\n,north,330\n4,,400\n6,west,610\n"


class ReadCsv(Reader):
    """`read_csv`, and the recipe that is made of the table."""

    form = forms.Csv
    file = "a.csv"

    def seeds(self):
        yield TABLE
        yield TABLE.replace(b",", b";").replace(b"\n", b"\r\n")
        yield b'"a ""quoted"" name",b,price\n"two\nlines",x,no\nc,y,yes\n'

    def read(self):
        table = fn.data.read_csv(self.path)
        fn.data.TableRecipe.fit(table, table.names[-1])(table)


class Recipe(Reader):
    """`TableRecipe.load`, and the features that it makes."""

    form = forms.Json
    file = "recipe.json"

    def prepare(self):
        path = self.folder / "a.csv"
        path.write_bytes(TABLE)
        self.table = fn.data.read_csv(path)

    def seeds(self):
        for target in ("price", "rooms"):
            recipe = fn.data.TableRecipe.fit(self.table[[0, 1, 3, 4]], target)
            yield self.saved(recipe.save)

    def read(self):
        recipe = fn.data.TableRecipe.load(self.path)
        with contextlib.suppress(ValueError):  # of the table, which has other columns perhaps
            recipe(self.table)


class RecipeOfArrays(Recipe):
    """`ArrayRecipe.load`, and the features that it makes."""

    x, y = np.arange(12.0).reshape(4, 3), np.array([1, 0, 1, 2])

    def seeds(self):
        for target in (self.y, self.x[:, 1]):
            yield self.saved(fn.data.ArrayRecipe.fit(self.x, target).save)

    def read(self):
        recipe = fn.data.ArrayRecipe.load(self.path)
        with contextlib.suppress(ValueError):
            recipe(self.x, self.y)


class MnistImages(ReadIdx):
    """Images of `mnist`."""

    file = "t10k-images-idx3-ubyte"
    other = ("t10k-labels-idx1-ubyte", idx(np.array([3, 9], np.uint8)))

    def prepare(self):
        name, data = self.other
        (self.folder / name).write_bytes(data)

    def seeds(self):
        plain = idx(np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28))
        return [plain, gzip.compress(plain, mtime=0)]

    def read(self):
        fn.data.mnist("test", self.folder)


class MnistLabels(MnistImages):
    """Labels of `mnist`."""

    file = MnistImages.other[0]
    other = (MnistImages.file, idx(np.zeros((2, 28, 28), np.uint8)))

    def seeds(self):
        plain = MnistImages.other[1]
        return [plain, gzip.compress(plain, mtime=0)]


class Cifar10(Reader):
    """`cifar10`."""

    form = forms.Cifar(1)
    file = "test_batch.bin"
    normalize = True

    def seeds(self):
        pixels = np.arange(3072).astype(np.uint8).tobytes()
        return [b"\3" * self.form.labels + pixels, (b"\0" * self.form.labels + pixels) * 2]

    def read(self):
        fn.data.cifar10("test", self.folder)


class Cifar100(Cifar10):
    """`cifar100`."""

    form = forms.Cifar(2)
    file = "test.bin"

    def read(self):
        fn.data.cifar100("test", self.folder, normalize=False)


class Image(Reader):
    """An image of `ImageFolder`, of which few pixels are asked for."""

    form = forms.Png
    file = "root/class/a.png"
    needs = "PIL"
    memory = 2**25  # Pillow makes blocks of 16 MiB

    def prepare(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def seeds(self):
        from PIL import Image

        image = Image.fromarray(np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3))
        for mode, kind in (
            ("RGB", "PNG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("RGB", "BMP"),
            ("RGB", "PPM"), ("L", "TIFF"), ("CMYK", "TIFF"), ("RGB", "JPEG"), ("RGB", "WEBP"),
        ):  # fmt: skip
            yield self.saved(functools.partial(image.convert(mode).save, format=kind))

    def read(self):
        from PIL import Image

        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 2**14  # large images are honest descriptions
        try:
            for mode in ("RGB", "L"):
                fn.data.ImageFolder(self.folder / "root", size=4, mode=mode)[:]
        finally:
            Image.MAX_IMAGE_PIXELS = limit


class History(Reader):
    """history.csv, drawn by `fastnn plot`."""

    form = forms.Csv
    file = "history.csv"
    needs = "matplotlib.pyplot"
    seconds = 20.0  # of a hundred panels, which are an honest description

    def seeds(self):
        yield b"epoch,loss,val_loss\n1,0.5,0.75\n2,0.25,\n"
        yield b"epoch,loss,accuracy,samples_per_second\n1,20.5,0.1,5000\n2,0.25,nan,6000\n"

    def read(self):
        import matplotlib

        matplotlib.use("Agg")
        figure = plotting.plot_history(self.path)
        try:
            figure.savefig(io.BytesIO(), format="png", dpi=20)
        finally:
            plotting.pyplot().close(figure)


# ---- networks of other systems ----------------------------------------------------------------------


class AnyFile(Reader):
    """`interop.files.kind_of`, which looks at whatever it is given."""

    def seeds(self):
        fn.manual_seed(0)
        yield self.saved(nn.Linear(2, 3).save)
        for members in (("config.json", "model.weights.h5"), ("a.npy",), ("a/data.pkl",), ("a.txt",)):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                for member in members:
                    archive.writestr(zipfile.ZipInfo(member), b"{}")  # of 1980, and not of now
            yield file.getvalue()
        yield b"\x08\x07\x12\x03abc\x3a\x04\x0a\x02\x08\x01"  # ONNX
        yield b"\x0a\x05LeNet\xa2\x06\x02\x08\x01"  # Caffe
        yield b"# text\nlayer { name: 'a' }\n"
        yield b"4\n1\n3\nV 1\n7\nnn.Tanh\n3\n2\n0\n"
        yield b"\x89HDF\r\n\x1a\n" + bytes(20)

    def read(self):
        kind_of(self.path)


class Keras(Reader):
    """`load_keras` of an archive."""

    form = keras_files.Form
    file = "a.keras"
    needs = "h5py"

    def seeds(self):
        yield from keras_files.archives()
        yield keras_files.archive(*keras_files.small(), packed=True)

    def read(self):
        fn.interop.load_keras(self.path)

    def size(self, data):
        """What is packed may grow to a hundred times its bytes."""
        return len(data) * 100


class KerasHdf5(Keras):
    """`load_keras` of HDF5, whose bytes alone are changed."""

    form = None
    size = Reader.size
    memory = 2**24

    def seeds(self):
        return keras_files.all_of_hdf5()


class KerasWeights(KerasHdf5):
    """Weights for a network that is there."""

    def prepare(self):
        path = self.folder / "there"
        path.write_bytes(keras_files.archive(*keras_files.small()))
        self.model = fn.interop.load_keras(path)

    def read(self):
        fn.interop.load_keras(self.path, self.model)

    def state(self):
        return bytes_of(self.model.state_dict())


# ---- the command line -------------------------------------------------------------------------------


@functools.cache
def trained():
    """The files of a run of two epochs."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "r"
        command("train", "--hidden", "4", "--epochs", "2", "--out", run)
        files = {path.name: path.read_bytes() for path in run.iterdir()}
    name = "checkpoint.safetensors"
    return {**files, name: timeless(files[name])}


def command(*argv):
    """Run a command; ValueError with its line where it refuses."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = command_line([str(argument) for argument in argv])
    printed, lines = (stream.buffer.getvalue().decode() for stream in (out, err))
    wrong = [line for line in printed.split("\n") if not line.isprintable()]
    if wrong:
        raise Finding(f"{argv[0]} prints {wrong[0]!r}")
    errors = [line for line in lines.split("\n") if line and not line.startswith("fastnn: warning: ")]
    if status not in (0, 1, 2) or len(errors) != (status != 0) or (errors and errors[0][:15] != "fastnn: error: "):
        raise Finding(f"{argv[0]} ends with {status} and {lines!r}")
    if status == 2:
        raise ValueError(errors[0])


def everything(commands, judge):
    """Run all commands; the first refusal of them is raised at last."""
    refusals = []
    for argv in commands:
        try:
            command(*argv)
        except ValueError as error:
            refusals.append(error)
            judge(str(error))
    if refusals:
        raise refusals[0]


class Run(Reader):
    """A file of a run folder."""

    files = staticmethod(trained)

    def prepare(self):
        self.run = self.folder / "r"
        self.run.mkdir(exist_ok=True)
        for name, data in self.files().items():
            (self.run / name).write_bytes(data)

    def seeds(self):
        return [self.files()[self.path.name]]


class Config(Run):
    """config.json."""

    form = forms.Json
    file = "r/config.json"

    def prepare(self):
        super().prepare()
        self.sample = self.folder / "sample"
        self.sample.write_bytes(idx(np.zeros((1, 8, 8), np.uint8)))

    def seeds(self):
        yield from super().seeds()
        config = json.loads(trained()["config.json"])
        changes = {"data": "mnist", "model": "lenet5", "hidden": [], "dropout": 0.0, "data_dir": str(self.run)}
        yield json.dumps({**config, **changes}).encode()
        yield json.dumps({**config, "shifts": False, "optimizer": "adam", "schedule": "constant"}).encode()

    def read(self):
        resume = ("train", "--epochs", "3", "--resume", self.run)
        everything((("info", self.run), ("predict", self.run, self.sample), resume), self.judge)


TRAINED = TABLE + b"2,south,200\n4,north,410\n"


@functools.cache
def trained_on_a_table():
    """The files of a run of two epochs on a table."""
    with tempfile.TemporaryDirectory() as folder:
        path, run = pathlib.Path(folder) / "a.csv", pathlib.Path(folder) / "r"
        path.write_bytes(TRAINED)
        command("train", "--data", path, "--target", "price", "--hidden", "4", "--epochs", "2", "--out", run)
        return {path.name: path.read_bytes() for path in run.iterdir()}


class RecipeOfRun(Run):
    """recipe.json of a run on a table, which `fastnn predict` applies."""

    form = forms.Json
    file = "r/recipe.json"
    files = staticmethod(trained_on_a_table)

    def prepare(self):
        super().prepare()
        self.table = self.folder / "new.csv"
        self.table.write_bytes(TABLE)

    def read(self):
        command("predict", self.run, self.table)


class ConfigOfTable(RecipeOfRun):
    """config.json of a run on a table."""

    file = "r/config.json"

    def prepare(self):
        super().prepare()
        (self.folder / "a.csv").write_bytes(TRAINED)

    def read(self):
        resume = ("train", "--epochs", "3", "--resume", self.run, "--data", self.folder / "a.csv")
        everything((("info", self.run), ("predict", self.run, self.table), resume), self.judge)


class SamplesCsv(RecipeOfRun):
    """A table that `fastnn predict` reads."""

    form = forms.Csv
    file = "samples.csv"

    def seeds(self):
        return [TABLE, TABLE.replace(b",", b"\t")]

    def read(self):
        command("predict", self.run, self.path)


class Weights(Run):
    """weights.safetensors, which `fastnn eval` loads."""

    form = forms.Safetensors
    file = "r/weights.safetensors"

    def read(self):
        command("eval", self.run)


class RunCheckpoint(Run):
    """checkpoint.safetensors, which `fastnn train --resume` goes on from."""

    form = forms.Safetensors
    file = "r/checkpoint.safetensors"

    def read(self):
        command("train", "--epochs", "3", "--resume", self.run)


class Samples(Run):
    """Samples of `fastnn predict` as .npy."""

    form = forms.Npy
    file = "a.npy"

    def seeds(self):
        for array in (np.ones((2, 8, 8), np.uint8), np.asfortranarray(np.ones((3, 64), ">f4")), np.ones((8, 8))):
            with self.path.open("wb") as file:
                np.lib.format.write_array(file, array, (2, 0) if array.ndim == 3 else (1, 0))
            yield self.path.read_bytes()

    def read(self):
        command("predict", self.run, self.path)


class SamplesIdx(Samples):
    """Samples of `fastnn predict` as IDX."""

    form = forms.Idx
    file = "a.idx"
    size = ReadIdx.size

    def seeds(self):
        for array in (np.ones((2, 8, 8), np.uint8), np.ones((3, 64), np.float32), np.ones((1, 1, 8, 8), np.int16)):
            yield self.saved(functools.partial(fn.data.write_idx, array=array))
        yield gzip.compress(self.path.read_bytes(), mtime=0)


READERS = {
    "model": Model,
    "part-of-model": PartOfModel,
    "checkpoint": Checkpoint,
    "resume": Resume,
    "idx": ReadIdx,
    "npy": ReadNpy,
    "npz": ReadNpz,
    "csv": ReadCsv,
    "recipe": Recipe,
    "recipe-of-arrays": RecipeOfArrays,
    "mnist-images": MnistImages,
    "mnist-labels": MnistLabels,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "image": Image,
    "history": History,
    "any-file": AnyFile,
    "keras": Keras,
    "keras-hdf5": KerasHdf5,
    "keras-weights": KerasWeights,
    "config": Config,
    "config-of-table": ConfigOfTable,
    "recipe-of-run": RecipeOfRun,
    "samples-csv": SamplesCsv,
    "weights": Weights,
    "run-checkpoint": RunCheckpoint,
    "samples": Samples,
    "samples-idx": SamplesIdx,
}


# ---- running ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def surroundings(folder):
    """What readers find around them: data sets of a few samples, a home of their own, one thread."""
    data, digits, parser = folder / "data", fn.data.digits, options.parser
    data.mkdir()
    for name in ("train", "t10k"):
        (data / f"{name}-images-idx3-ubyte").write_bytes(idx(np.zeros((4, 28, 28), np.uint8)))
        (data / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(4, dtype=np.uint8)))
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (data / f"{name}.bin").write_bytes(bytes(3073))
    environment, threads, random_state = dict(os.environ), fn.get_num_threads(), fn.get_rng_state()
    tracing = tracemalloc.is_tracing()
    os.environ.update(FASTNN_DATA=str(data), XDG_CACHE_HOME=str(folder / "cache"))
    fn.set_num_threads(1)
    few = {split: tuple(part[:40] for part in digits(split)) for split in ("train", "test")}
    fn.data.digits = few.__getitem__
    options.parser = functools.cache(parser)  # which takes longer to make than most files to be read
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if not tracing:
            tracemalloc.stop()
        fn.data.digits, options.parser = digits, parser
        fn.set_rng_state(random_state)
        fn.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)


def tries(reader, files):
    """Let a reader try files; how it ended with them. One on which it breaks a promise is kept beside it."""
    for data in files:
        try:
            reader(data)
        except Exception as error:
            kept = reader.folder / "finding"
            kept.write_bytes(data)
            raise AssertionError(f"{type(reader).__name__} broke a promise on {kept}") from error
    return reader.endings


def mutants(reader, seed, count):
    """Files that are always the same, if each is read before the next."""
    rng = random.Random(seed)
    for _ in range(count):
        yield reader.mutant(rng, functools.partial(forms.random_bytes, rng))


def main():
    """Hand a reader to atheris: its name first, then the options of libFuzzer."""
    name, *given = sys.argv[1:]
    folder = pathlib.Path(tempfile.mkdtemp())
    summary = folder / "summary"
    summary.write_text("nothing was read")
    child = os.fork()  # libFuzzer ends its process itself
    if child == 0:
        fuzz(name, given, folder, summary)
    try:
        _, status = os.waitpid(child, 0)
        print(f"{name}: {summary.read_text()}")
    finally:
        shutil.rmtree(folder)
    sys.exit(os.waitstatus_to_exitcode(status))


def fuzz(name, given, folder, summary):
    with surroundings(folder):
        for part in ("reader", "seeds"):
            (folder / part).mkdir()
        reader = READERS[name](folder / "reader")
        for i, data in enumerate(reader.corpus):
            (folder / "seeds" / str(i)).write_bytes(data)
        told = 0.0

        def read(data):
            nonlocal told
            try:
                reader(data)
            finally:
                if time.monotonic() > told + 1 or sys.exc_info()[0]:
                    summary.write_text(reader.summary())
                    told = time.monotonic()

        def mutate(data, most, seed):
            return reader.mutant(random.Random(seed), lambda part: atheris.Mutate(part, most), data)[:most]

        if not any(os.path.isfile(option) for option in given):
            given.append(str(folder / "seeds"))
        atheris.Setup([sys.argv[0], "-max_len=65536", "-mutate_depth=2", *given], read, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
