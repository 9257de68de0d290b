"""ImageFolder: which files are read, how they become arrays, and which are refused."""

import sys
import tracemalloc

import numpy as np
import pytest

from fastnn.data import DataLoader, ImageFolder

from workers import is_worker

Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)


def picture(height=6, width=5, channels=3):
    pixels = RNG.integers(0, 256, (height, width, channels), np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes, three and two images of 6x5; and the pixels of all five."""
    pixels = [picture() for _ in range(5)]
    names = ["cat/a.png", "cat/b.png", "cat/deep/c.bmp", "dog/a.tiff", "dog/z.PNG"]
    for name, image in zip(names, pixels, strict=True):
        put(tmp_path / name, image)
    return tmp_path, np.stack(pixels)


def test_subfolders_are_classes_in_the_order_of_their_names(folder):
    root, _ = folder
    images = ImageFolder(root)
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert [f.removeprefix(f"{root}/") for f in images.files] == [
        "cat/a.png",
        "cat/b.png",
        "cat/deep/c.bmp",
        "dog/a.tiff",
        "dog/z.PNG",
    ]
    assert len(images) == 5


def test_rows_are_images_as_channels_of_float32_from_0_to_1(folder):
    root, pixels = folder
    x, y = ImageFolder(root)[[4, 0, 2]]
    assert (x.dtype, x.shape) == (np.float32, (3, 3, 6, 5))
    assert (y.dtype, y.tolist()) == (np.int64, [1, 0, 0])
    expected = pixels[[4, 0, 2]].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(x, expected)


def test_an_int_a_slice_and_a_mask_choose_rows(folder):
    images = ImageFolder(folder[0])
    everything, labels = images[:]
    assert everything.shape == (5, 3, 6, 5)
    x, y = images[-1]
    assert (x.shape, y.shape, int(y)) == ((3, 6, 5), (), 1)
    np.testing.assert_array_equal(x, everything[4])
    np.testing.assert_array_equal(images[labels == 1][0], everything[3:])
    assert images[[]][0].shape == (0, 3, 6, 5)


def test_bytes_stay_bytes_if_told(folder):
    root, pixels = folder
    x, _ = ImageFolder(root, normalize=False)[:]
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x, pixels.transpose(0, 3, 1, 2))


def test_grey_is_one_channel_with_the_weights_of_bt_601(folder):
    root, pixels = folder
    x, _ = ImageFolder(root, mode="L", normalize=False)[:]
    assert x.shape == (5, 1, 6, 5)
    np.testing.assert_allclose(x[:, 0], pixels @ [0.299, 0.587, 0.114], atol=1)


def test_grey_files_are_read_as_colour_and_transparency_is_dropped(tmp_path):
    grey, clear = picture(channels=1), picture(channels=4)
    put(tmp_path / "a" / "grey.png", grey)
    put(tmp_path / "a" / "transparent.png", clear)
    x, _ = ImageFolder(tmp_path, normalize=False)[:]
    np.testing.assert_array_equal(x[0], np.stack([grey] * 3))
    np.testing.assert_array_equal(x[1], clear[..., :3].transpose(2, 0, 1))


def test_a_palette_is_looked_up(tmp_path):
    indexed = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), mode="P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
    (tmp_path / "a").mkdir()
    indexed.save(tmp_path / "a" / "i.gif")
    x, _ = ImageFolder(tmp_path, normalize=False)[0]
    np.testing.assert_array_equal(x[:, 1, 1], [9, 8, 7])
    np.testing.assert_array_equal(x[:, 0, 1], [0, 255, 0])


@pytest.mark.parametrize(("size", "shape"), [(4, (4, 4)), ((7, 3), (7, 3)), ([9, 20], (9, 20))])
def test_images_of_all_sizes_are_brought_to_one(tmp_path, size, shape):
    for i, (height, width) in enumerate([(10, 4), (4, 10), (33, 33), (1, 1)]):
        put(tmp_path / "a" / f"{i}.png", picture(height, width))
    assert ImageFolder(tmp_path, size)[:][0].shape == (4, 3, *shape)


def test_the_size_is_height_by_width(tmp_path):
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, 4:] = 255  # bright on the right
    put(tmp_path / "a" / "halves.png", halves)
    x, _ = ImageFolder(tmp_path, size=(2, 8), normalize=False)[0]
    assert x.shape == (3, 2, 8)
    assert (x[..., :3] == 0).all() and (x[..., 5:] == 255).all()


def test_scaling_covers_the_size_and_keeps_the_middle(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200  # the middle third is what a square keeps
    put(tmp_path / "a" / "wide.png", wide)
    x, _ = ImageFolder(tmp_path, size=4, normalize=False)[0]
    assert (x[..., 1:3] == 200).all()
    assert (x > 100).all()  # the columns at the sides have a little of what lies outside


def test_shrinking_averages_instead_of_picking_pixels(tmp_path):
    board = np.indices((64, 64)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    put(tmp_path / "a" / "board.png", board.astype(np.uint8))
    x, _ = ImageFolder(tmp_path, size=8, normalize=False)[0]
    assert np.abs(x.astype(int) - 127).max() <= 10


def test_a_photograph_is_turned_upright(tmp_path):
    pixels = picture(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its left side: turn clockwise
    put(tmp_path / "a" / "lying.png", pixels, exif=exif)
    x, _ = ImageFolder(tmp_path, normalize=False)[0]
    np.testing.assert_array_equal(x, np.rot90(pixels, -1).transpose(2, 0, 1))


def test_hidden_files_and_what_is_no_image_by_its_name_are_passed_over(folder):
    root, _ = folder
    for name in ["cat/.x.png", "cat/notes.txt", ".cache/a.png", "dog/.deep/a.png", "stray.png"]:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    assert len(ImageFolder(root)) == 5
    assert ImageFolder(root).classes == ("cat", "dog")


def test_a_loader_reads_it_in_its_thread(folder):
    threads = []

    class Watched(ImageFolder):
        def __getitem__(self, index):
            threads.append(is_worker())
            return super().__getitem__(index)

    root, pixels = folder
    images = Watched(root)
    got = list(DataLoader(images, batch_size=2, shuffle=True, seed=3))
    assert [len(x) for x, _ in got] == [2, 2, 1]
    assert set(threads) == {True}
    x, y = (np.concatenate(column) for column in zip(*got, strict=True))
    assert sorted(y.tolist()) == [0, 0, 0, 1, 1]
    expected = {row.tobytes() for row in images[:][0]}
    assert {row.tobytes() for row in x} == expected and len(expected) == len(pixels)


# What is refused


def test_without_size_an_image_of_another_size_is_named(folder):
    root, _ = folder
    put(root / "dog" / "large.png", picture(6, 7))
    images = ImageFolder(root)
    images[:4]
    with pytest.raises(ValueError, match=r"large\.png: expected 6x5.*got 6x7; give size="):
        images[:]


def damaged(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "webp", "ppm"])
@pytest.mark.parametrize("keep", [0, 0.02, 0.3, 0.7])
def test_a_truncated_file_is_refused_by_name(tmp_path, ending, keep):
    put(tmp_path / "a" / "good.png", picture(40, 40))
    put(tmp_path / "a" / f"torn.{ending}", picture(40, 40))
    damaged(tmp_path / "a" / f"torn.{ending}", keep)
    images = ImageFolder(tmp_path, size=40)
    images[0]
    with pytest.raises(ValueError, match=rf"torn\.{ending}: damaged, or no image"):
        images[1]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, about what it finds in TIFF
@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "tiff", "webp", "ppm"])
def test_bytes_changed_anywhere_give_an_image_or_a_value_error_that_names_the_file(tmp_path, ending):
    path = tmp_path / "a" / f"bitten.{ending}"
    put(path, picture(12, 12))
    images = ImageFolder(tmp_path, size=8)
    content = path.read_bytes()
    refused = 0
    for position in RNG.choice(len(content), min(len(content), 150), replace=False):
        bitten = bytearray(content)
        bitten[position] ^= 0xFF
        path.write_bytes(bitten)
        try:
            assert images[0][0].shape == (3, 8, 8)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\nshowpage\n%%EOF\n"
ICON = b"icns\0\0\0\x10ic07\0\0\0\x08"


@pytest.mark.parametrize("content", [POSTSCRIPT, ICON], ids=["PostScript", "icon"])
def test_a_file_of_another_format_under_the_name_of_an_image_is_not_decoded(tmp_path, monkeypatch, content):
    """PostScript is a program, which Pillow hands to Ghostscript."""
    put(tmp_path / "a" / "good.png", picture())
    (tmp_path / "a" / "other.png").write_bytes(content)
    images = ImageFolder(tmp_path, size=4)
    images[0]
    for plugin in ("EPS", "ICNS"):
        monkeypatch.setitem(Image.OPEN, plugin, (lambda *_: pytest.fail("it is decoded"), Image.OPEN[plugin][1]))
    with pytest.raises(ValueError, match=r"other\.png: damaged, or no image of a format that is read$"):
        images[1]


def test_memory_follows_the_bytes_that_are_there_and_not_the_announced(tmp_path):
    """The pixels of this PNG are announced as 1 GiB."""
    path = tmp_path / "a" / "a.png"
    put(path, picture())
    content = path.read_bytes()
    at = content.index(b"IDAT") - 4
    path.write_bytes(content[:at] + (2**30).to_bytes(4, "big") + content[at + 4 :])
    images = ImageFolder(tmp_path, size=4)
    tracemalloc.start()
    try:
        assert images[0][0].shape == (3, 4, 4)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_a_damaged_file_in_a_batch_is_raised_in_the_loop(folder):
    root, _ = folder
    images = ImageFolder(root)
    (root / "dog" / "a.tiff").write_text("not any more")
    with pytest.raises(ValueError, match=r"dog/a\.tiff: damaged, or no image"):
        list(DataLoader(images, batch_size=2))


def test_a_file_that_has_gone_is_not_called_damaged(folder):
    root, _ = folder
    images = ImageFolder(root)
    (root / "dog" / "z.PNG").unlink()
    with pytest.raises(FileNotFoundError, match=r"z\.PNG"):
        images[:]


def test_sixteen_bits_are_refused_instead_of_cut(tmp_path):
    put(tmp_path / "a" / "deep.png", np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096)
    with pytest.raises(ValueError, match=r"deep\.png: expected 8 bits a value"):
        ImageFolder(tmp_path)[0]


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="root: expected a subfolder for each class"):
        ImageFolder(tmp_path)
    put(tmp_path / "cat" / "a.png", picture())
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match=r"root: the class folder .*dog holds no image"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"root": 3}, TypeError, "root"),
        ({"size": 0}, ValueError, "size"),
        ({"size": 2.5}, TypeError, "size"),
        ({"size": (3, 0)}, ValueError, r"size\[1\]"),
        ({"size": (3,)}, ValueError, "size"),
        ({"mode": "CMYK"}, ValueError, "mode"),
        ({"normalize": 1}, TypeError, "normalize"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(folder, options, error, name):
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        ImageFolder(**{"root": folder[0], **options})


def test_without_pillow_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[image\]"'):
        ImageFolder(folder[0])
