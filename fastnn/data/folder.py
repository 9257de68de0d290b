"""Images in a folder, in a subfolder for each class."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.data.dataset import ArrayDataset

if TYPE_CHECKING:
    from PIL.Image import Image

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: As Pillow calls them. It knows others by their bytes, whatever a file's name, and hands PostScript to Ghostscript.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_CHANNELS = {"RGB": 3, "L": 1}
_DEEP = ("I", "F")  # how the names of those Pillow modes begin that hold more than 8 bits a value


class ImageFolder:
    """A dataset of image files, read when they are asked for; a subfolder is a class.

    It needs Pillow: ``pip install "fastnn[image]"``.

    Parameters
    ----------
    root : path-like
        Each folder in it is a class, in the order of their names; images lie in the class folder or
        deeper. Names that begin with a dot, and files with other endings than those of BMP, GIF,
        JPEG, PGM, PNG, PPM, TIFF and WebP, are passed over. Files of other formats under these
        endings are refused.
    size : int or (int, int), optional
        Height and width to return, or the side of a square: each image is scaled to cover it, with
        its proportions kept (bilinear, averaging where it shrinks), and the middle is cut out.
        Without it all images must have one size.
    mode : {"RGB", "L"}, default "RGB"
        Colour, or grey: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). Transparency is dropped.
    normalize : bool, default True
        float32 from 0 to 1; otherwise uint8 from 0 to 255.

    Attributes
    ----------
    classes : tuple of str
        The names of the class folders; a label is an index of it.
    files : tuple of str
        The path of each image.
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    ImportError
        If Pillow is not installed.
    FileNotFoundError
        If `root` is no folder.
    ValueError
        If there is no class folder, or one without an image; when images are read, for a file that
        is damaged or no image, that is grey of more than 8 bits a value or, without `size`, of
        another size than the first. The message begins with the path of the file.
    TypeError
        For arguments of another kind.

    Notes
    -----
    A photograph is turned upright by its EXIF orientation, as viewers show it; torchvision's
    ImageFolder leaves it as the camera lay. Of an animation the first frame is taken.

    Examples
    --------
    >>> photos = fn.data.ImageFolder("flowers/train", size=64)
    >>> loader = fn.data.DataLoader(photos, batch_size=32, shuffle=True, seed=0)
    >>> x, y = next(iter(loader))
    >>> x.shape, photos.classes
    ((32, 3, 64, 64), ('rose', 'tulip'))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int | Sequence[int] | None = None,
        mode: str = "RGB",
        normalize: bool = True,
    ) -> None:
        root = os.path.expanduser(_check.path("root", root))
        self.size = None if size is None else _check.height_and_width("size", size)
        self.mode = _check.choice("mode", mode, *_CHANNELS)
        self.normalize = _check.flag("normalize", normalize)
        if not os.path.isdir(root):
            raise FileNotFoundError(f"root: there is no folder {root}")
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        if not names:
            raise ValueError(f"root: expected a subfolder for each class in {root}, got none")
        found = [image_files(os.path.join(root, name)) for name in names]
        for name, files in zip(names, found, strict=True):
            if not files:
                raise ValueError(
                    f"root: the class folder {os.path.join(root, name)} holds no image file ({', '.join(_ENDINGS)})"
                )
        _pillow()  # if it is missing, that is to be known now, and not at the first batch
        self.classes = tuple(names)
        self.files = tuple(path for files in found for path in files)
        self.labels = np.repeat(np.arange(len(names), dtype=np.int64), [len(files) for files in found])
        self._size = self.size or _size_of(_decode(self.files[0]))
        self._rows = ArrayDataset(np.arange(len(self.files)))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | slice | ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Read the chosen images.

        Parameters
        ----------
        index : int, slice, or 1-d array of ints or bools
            As of `ArrayDataset`; ``folder[:]`` reads all.

        Returns
        -------
        images : ndarray, (n, channels, height, width), or (channels, height, width) for an int
            float32 from 0 to 1, or uint8.
        labels : ndarray of int64, (n,), or () for an int
        """
        (rows,) = self._rows[index]
        files = [self.files[row] for row in rows.reshape(-1)]
        images = read_images(files, self._size, self.mode, None if self.size else self.files[0])
        images = images.reshape(*rows.shape, *images.shape[1:])
        labels = np.asarray(self.labels[rows])
        return np.divide(images, 255, dtype=np.float32) if self.normalize else images, labels


def read_images(files: Sequence[str], size: tuple[int, int], mode: str, like: str | None = None) -> NDArray[np.uint8]:
    """Images of files as `ImageFolder` reads them, (n, channels, height, width), without classes.

    Parameters
    ----------
    files : sequence of str
    size : (int, int)
        Height and width, to which they are scaled and cut.
    mode : {"RGB", "L"}
    like : str, optional
        The file that says the size: the others must have it, and are not scaled.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    ImportError, ValueError
        As `ImageFolder`.
    """
    images = np.empty((len(files), _CHANNELS[mode], *size), np.uint8)
    for path, image in zip(files, images, strict=True):
        image[...] = _read(path, size, mode, like)
    return images


def _read(path: str, size: tuple[int, int], mode: str, like: str | None) -> NDArray[np.uint8]:
    image = _decode(path).convert(mode)
    height, width = size
    if like is None:
        from PIL.Image import Resampling
        from PIL.ImageOps import fit

        image = fit(image, (width, height), Resampling.BILINEAR)
    elif _size_of(image) != size:
        raise ValueError(
            f"{path}: expected {height}x{width} pixels (height x width), as {like} "
            f"has, got {image.height}x{image.width}; give size= to scale them all"
        )
    pixels: NDArray[np.uint8] = np.asarray(image).reshape(height, width, -1).transpose(2, 0, 1)
    return pixels


def image_files(folder: str) -> list[str]:
    """The image files in a folder and below, in the order of their paths."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(place, name)
            for name in sorted(names)
            if name.lower().endswith(_ENDINGS) and not name.startswith(".")
        ]
    return found


def _raise(error: OSError) -> None:
    raise error


def _size_of(image: Image) -> tuple[int, int]:
    return image.height, image.width


def _decode(path: str) -> Image:
    """The image of a file, upright."""
    pillow = _pillow()
    from PIL import UnidentifiedImageError
    from PIL.ImageOps import exif_transpose

    with open(path, "rb") as file:
        # Decoders ask a file for as many bytes as it announces, which takes the memory; and map one given by name.
        data = io.BytesIO(file.read())
    try:
        with pillow.open(data, formats=_formats()) as opened:
            opened.load()
            image: Image = exif_transpose(opened)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: damaged, or no image of a format that is read") from None
    except Exception as error:
        # What damaged bytes make a decoder raise is no closed list; what the system refuses, and
        # memory, are not the file's fault.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        raise ValueError(f"{path}: damaged, or no image: {_check.brief(str(error), str)}") from error
    if image.mode.startswith(_DEEP):
        raise ValueError(f"{path}: expected 8 bits a value, got an image of Pillow's mode {image.mode}")
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow was built with."""
    pillow = _pillow()
    pillow.init()
    return tuple(name for name in _FORMATS if name in pillow.OPEN)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('ImageFolder needs Pillow, which is not installed: pip install "fastnn[image]"') from error
    module: ModuleType = Image
    return module
