"""Each script of the gallery runs, in its quick settings, and leaves a picture."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

image = pytest.importorskip("matplotlib.image", reason="pictures need Matplotlib")

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "gallery"
SCRIPTS = sorted(FOLDER.glob("plot_*.py"))
EXTRAS = {"plot_20_table_of_your_own": "sklearn"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_draws_its_picture(script, tmp_path):
    if script.stem in EXTRAS:
        pytest.importorskip(EXTRAS[script.stem])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}
    number = script.stem.split("_")[1]
    command = [sys.executable, FOLDER / "pictures.py", tmp_path, "--quick", number]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    pictures = list(tmp_path.glob(f"{script.stem}*.png"))
    assert pictures
    for picture in pictures:
        pixels = image.imread(picture)[..., :3]
        colours, counts = np.unique(pixels.reshape(-1, 3).round(1), axis=0, return_counts=True)
        assert len(colours) >= 8 and counts.max() < 0.99 * counts.sum(), "a blank picture"


def test_the_film_of_the_boundary_has_frames(tmp_path):
    from PIL import Image

    command = [sys.executable, FOLDER / "pictures.py", tmp_path, "--quick", "18"]
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    with Image.open(tmp_path / "spirals.gif") as film:
        assert film.n_frames >= 4


@pytest.mark.parametrize("installed", [True, False])
def test_speeds_are_printed_next_to_pytorchs_and_without_it(installed, monkeypatch, capsys):
    if installed:
        pytest.importorskip("torch")
    else:
        monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.syspath_prepend(FOLDER)
    from _beside_pytorch import print_speeds

    from fastnn import nn

    model, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), np.zeros((3, 4), np.float32)
    print_speeds(model, x, x[:, :2].copy(), 20)
    beside = r"PyTorch \d+" if installed else r"\(PyTorch, to compare with, is not installed\)"
    assert re.fullmatch(rf"One step alone: \d+ a second,? {beside}\n", capsys.readouterr().out)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_begins_with_what_to_see(script):
    """In the form that sphinx-gallery reads: a title, underlined, and a text."""
    source = script.read_text()
    title, rule, blank, *text = ast.get_docstring(ast.parse(source)).split("\n")
    assert title and rule == "=" * len(title) and not blank
    assert len(" ".join(text)) > 150
    assert sum(bool(line.strip()) for line in source.split("\n")) < 80
    assert source.rstrip().endswith("plt.show()")
