"""Pictures: what stands in them, what is refused, and `fastnn plot`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.cli import main
from fastnn.plotting import (
    confusion_matrix,
    plot_confusion,
    plot_decision_boundary,
    plot_feature_maps,
    plot_filters,
    plot_histograms,
    plot_history,
    plot_measurements,
)

matplotlib = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def without_a_screen(monkeypatch):
    """Figures are drawn in memory, closed after each test, and never shown."""
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("a window was opened"))
    yield
    plt.close("all")


def picture(axes):
    """The array that an Axes shows as an image."""
    return np.asarray(axes.get_images()[0].get_array().filled(np.nan))


def tiles(axes, height, width):
    """The tiles of a mosaic, row by row: (n, height, width, ...)."""
    whole = picture(axes)
    rows, columns = whole.shape[0] // height, whole.shape[1] // width
    cells = whole.reshape(rows, height, columns, width, *whole.shape[2:]).swapaxes(1, 2)
    return cells.reshape(rows * columns, height, width, *whole.shape[2:])


def rendered(figure):
    """The pixels of a figure, drawn."""
    canvas = matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


# Filters


def test_filters_over_one_channel_are_tiles_scaled_by_their_largest_weight():
    weight = RNG.normal(size=(6, 1, 5, 4))
    figure = plot_filters(weight)
    shown = tiles(figure.axes[0], 5, 4)
    expected = weight[:, 0] / np.abs(weight).max((1, 2, 3), keepdims=True)[:, 0]
    np.testing.assert_allclose(shown, expected)
    assert "6 filters of 1×5×4" in figure.axes[0].get_title()


def test_filters_over_three_channels_are_colours_with_grey_for_zero():
    weight = np.zeros((2, 3, 4, 4))
    weight[0, 0], weight[1, 2, 0, 3] = 3, -5
    shown = tiles(plot_filters(weight).axes[0], 4, 4)
    np.testing.assert_array_equal(shown[0, ..., :3], np.broadcast_to([1, 0.5, 0.5], (4, 4, 3)))
    np.testing.assert_array_equal(shown[1, 0, 3], [0.5, 0.5, 0, 1])
    np.testing.assert_array_equal(shown[1, 3, 0], [0.5, 0.5, 0.5, 1])


def test_filters_over_other_channels_are_rows_of_tiles():
    weight = RNG.normal(size=(4, 7, 3, 3))
    axes = plot_filters(weight).axes[0]
    assert picture(axes).shape == (4 * 3, 7 * 3)
    scaled = weight / np.abs(weight).max((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(tiles(axes, 3, 3), scaled.reshape(28, 3, 3))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input channel", "filter")


def test_a_model_shows_its_first_weight():
    model = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Conv2d(6, 4, 3))
    axes = plot_filters(model).axes[0]
    assert axes.get_title().startswith("0.weight: 6 filters")
    np.testing.assert_array_equal(picture(axes), picture(plot_filters(model[0].weight).axes[0]))


def test_a_linear_layer_shows_the_images_that_it_flattens():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    weight = model[1].weight.data
    shown = tiles(plot_filters(model, shape=(1, 3, 4)).axes[0], 3, 4)
    scaled = weight.astype(float) / np.abs(weight).max(1, keepdims=True)
    np.testing.assert_allclose(shown[:5].reshape(5, 12), scaled, rtol=1e-6)
    np.testing.assert_array_equal(picture(plot_filters(model, (3, 4)).axes[0]).shape[0] % 3, 0)
    assert "5 filters of 3×2×2" in plot_filters(weight, (3, 2, 2)).axes[0].get_title()


@pytest.mark.parametrize(("count", "columns", "rows"), [(7, 4, 2), (7, 9, 1), (1, None, 1)])
def test_places_without_a_filter_stay_empty(count, columns, rows):
    shown = picture(plot_filters(RNG.normal(size=(count, 1, 3, 3)), columns=columns).axes[0])
    assert shown.shape[0] == 3 * rows
    assert np.isfinite(shown).sum() == 9 * count


@pytest.mark.filterwarnings("error")
def test_dead_and_diverged_filters_are_drawn():
    weight = np.zeros((3, 1, 3, 3))
    weight[1] = np.nan
    weight[2, 0, 0] = np.inf
    assert rendered(plot_filters(weight)).any()


# Feature maps


def small_net():
    fn.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Dropout(0.9),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 3, 3),
        nn.Flatten(),
        nn.Linear(12, 2),
    )


def image(seed=0):
    return np.random.default_rng(seed).random((1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_maps_are_what_the_layer_gives_in_evaluation_mode(depth):
    model, x = small_net().train(), image()
    name = str(depth - 1)
    figure = plot_feature_maps(model, x, name)
    expected = model[:depth].eval()(x[np.newaxis])[0]
    shown = tiles(figure.axes[1], *expected.shape[1:])
    np.testing.assert_array_equal(shown[: len(expected)], expected)
    assert figure.axes[1].get_title().startswith(f"{name}: {len(expected)} maps of ")


def test_the_first_layer_that_makes_images_is_the_default_and_a_batch_of_one_is_an_input():
    model, x = small_net(), image()
    default = plot_feature_maps(model, x[np.newaxis]).axes
    named = plot_feature_maps(model, x, "0").axes
    assert default[1].get_title() == named[1].get_title()
    np.testing.assert_array_equal(picture(default[1]), picture(named[1]))


def test_the_input_stands_beside_its_maps():
    x = image()
    shown = picture(plot_feature_maps(small_net(), x).axes[0])
    np.testing.assert_allclose(shown, (x[0] - x.min()) / (x.max() - x.min()), rtol=1e-6)


def test_maps_of_both_signs_have_white_for_zero_and_positive_ones_begin_at_it():
    signed, positive = (plot_feature_maps(small_net(), image(), layer).axes[1].get_images()[0] for layer in ("0", "1"))
    low, high = signed.get_clim()
    assert low == -high
    maps = picture(signed.axes)
    assert high == pytest.approx(np.nanmax(np.abs(maps)))
    assert positive.get_clim()[0] == 0
    assert positive.get_cmap() != signed.get_cmap()


def test_layers_inside_of_layers_are_found_by_their_dotted_names():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())

        def forward(self, x):
            return (self.body(x) * 2).sum((1, 2, 3))

    model, x = Net(), image()
    axes = plot_feature_maps(model, x, "body.1").axes[1]
    expected = model.body(x[np.newaxis])[0]
    np.testing.assert_array_equal(tiles(axes, 6, 6)[:2], expected)


def test_looking_leaves_modes_and_later_results_as_they_were():
    model, x = small_net(), image()[np.newaxis]
    model.eval()
    model[2].train()
    before = model(x)
    plot_feature_maps(model, x)
    assert [m.training for m in model] == [False, False, True, False, False, False, False]
    model.eval()
    assert model(x).shape == before.shape


# Curves


LOGS = {
    "loss": [2.0, 1.0, 0.5, 0.4],
    "accuracy": [0.5, 0.7, 0.8, 0.9],
    "val_loss": [2.1, 1.2, 0.9, 1.0],
    "val_accuracy": [0.4, 0.6, 0.65, 0.7],
    "samples_per_second": [1e4] * 4,
}


def curves(figure):
    """{(title of the Axes, label): (epochs, values)} of the labelled lines."""
    return {
        (axes.get_title("left").split(":")[0], line.get_label()): tuple(map(list, line.get_data()))
        for axes in figure.axes
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def test_each_log_is_drawn_beside_its_validation():
    epochs = [1, 2, 3, 4]
    assert curves(plot_history(LOGS)) == {
        ("loss", "training"): (epochs, LOGS["loss"]),
        ("loss", "validation"): (epochs, LOGS["val_loss"]),
        ("accuracy", "training"): (epochs, LOGS["accuracy"]),
        ("accuracy", "validation"): (epochs, LOGS["val_accuracy"]),
    }


def test_the_best_epoch_is_named():
    titles = [axes.get_title("left") for axes in plot_history(LOGS).axes]
    assert titles == ["loss: best 0.9 in epoch 3", "accuracy: best 70.00% in epoch 4"]


def test_what_fit_returns_its_dict_its_folder_and_its_file_give_the_same_curves(tmp_path):
    x = RNG.normal(size=(40, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = nn.Linear(3, 2)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    history = trainer.fit(
        (x, y),
        validation_data=(x, y),
        epochs=3,
        callbacks=[fn.callbacks.CSVLogger(tmp_path / "history.csv")],
        verbose=False,
    )
    expected = curves(plot_history(history))
    assert expected[("loss", "training")] == ([1, 2, 3], history.history["loss"])
    for form in (history.history, tmp_path, str(tmp_path / "history.csv")):
        assert curves(plot_history(form)) == expected


def test_a_run_that_began_later_keeps_its_epochs():
    history = fn.train.History()
    for epoch in (5, 6):
        history.on_epoch_end(epoch, {"loss": 1.0})
    assert curves(plot_history(history))[("loss", "training")][0] == [6, 7]


def test_a_log_that_began_late_is_drawn_where_it_has_values(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n1,3,\n2,2,4\n3,1,3\n")
    drawn = curves(plot_history(tmp_path))[("loss", "validation")]
    np.testing.assert_array_equal(drawn, [[1, 2, 3], [np.nan, 4, 3]])
    late = curves(plot_history({"loss": [3, 2, 1], "val_loss": [4, 3]}))[("loss", "validation")]
    np.testing.assert_array_equal(late, drawn)


@pytest.mark.parametrize(("losses", "scale"), [([1, 0.04], "log"), ([1, 0.06], "linear"), ([1, 0], "linear")])
def test_a_loss_that_spans_a_factor_of_20_is_drawn_on_a_logarithmic_axis(losses, scale):
    assert plot_history({"loss": losses}).axes[0].get_yscale() == scale


def test_a_single_epoch_stands_in_the_middle():
    axes = plot_history({"loss": [0.5]}).axes[0]
    assert axes.get_xlim() == (0, 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "logs",
    [
        {"loss": [float("nan")] * 3, "val_loss": [float("nan")] * 3},
        {"loss": [1.0, float("inf"), float("nan")], "val_loss": [float("inf")] * 3},
        {"loss": [0.5]},
        {"val_accuracy": [0.5]},
    ],
)
def test_a_run_that_diverged_or_has_one_epoch_is_drawn(logs):
    assert rendered(plot_history(logs)).any()


# Confusion


def test_the_confusion_matrix_counts_true_classes_in_rows():
    matrix = confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 0])
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 1]]


def test_scores_count_by_their_largest_and_give_the_number_of_classes():
    scores = np.array([[0.1, 3, -1, 0], [5, 0, 0, 0]], np.float32)
    assert confusion_matrix([1, 2], scores).tolist() == [
        [0, 0, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]


@pytest.mark.parametrize("classes", [None, 12])
def test_the_confusion_matrix_is_that_of_a_plain_loop(classes):
    labels, predictions = RNG.integers(0, 10, (2, 500))
    expected = np.zeros((classes or 10,) * 2, int)
    for i, j in zip(labels, predictions, strict=True):
        expected[i, j] += 1
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, classes), expected)


def test_the_confusion_matrix_needs_no_matplotlib():
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from fastnn.plotting import confusion_matrix\n"
        "print(confusion_matrix([0, 1], [1, 1]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[[0, 1], [0, 1]]\n", done.stderr


def mistakes(figure):
    """Title and image of each mistake shown, in order."""
    return [(axes.get_title(), picture(axes)) for axes in figure.axes if "→" in axes.get_title() and axes.get_images()]


LABELS = np.array([0, 1, 2, 2, 1, 0])
LOGITS = np.array(
    [[9, 0, 0], [1.5, 1, 0], [0, 0.1, 0], [8, 0, 1], [0, 5, 0], [0, 0, 3]], np.float64
)  # wrong: 1 by 0.5, 2 by 0.1, 3 by 7, 5 by 3
IMAGES = RNG.random((6, 1, 4, 4))


@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_the_worst_mistakes_come_first(form):
    scores = LOGITS
    if form == "probabilities":
        scores = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    shown = mistakes(plot_confusion(LABELS, scores, IMAGES, worst=3))
    assert [title for title, _ in shown] == ["2 → 0", "0 → 2", "1 → 0"]
    for row, (_, shown_image) in zip((3, 5, 1), shown, strict=True):
        whole = IMAGES[row, 0]
        expected = (whole - whole.min()) / (whole.max() - whole.min())
        np.testing.assert_allclose(shown_image, expected)


def test_of_probabilities_the_ratio_counts():
    scores = np.array([[0.9, 0.1, 0.0], [0.5, 0.01, 0.49]])
    shown = mistakes(plot_confusion([1, 1], scores, np.arange(8.0).reshape(2, 2, 2) ** 2))
    np.testing.assert_allclose(shown[0][1], [[0, 9 / 33], [20 / 33, 1]])


def test_without_scores_mistakes_come_as_they_stand_under_their_names():
    shown = mistakes(plot_confusion(LABELS, LOGITS.argmax(1), IMAGES, names=["cat", "dog", "newt"]))
    assert [title for title, _ in shown] == ["dog → cat", "newt → dog", "newt → cat", "cat → newt"]


def test_colour_images_are_shown_in_colour():
    pictures = RNG.integers(0, 256, (6, 3, 4, 4), np.uint8)
    (_, first), *_ = mistakes(plot_confusion(LABELS, LOGITS, pictures))
    whole = pictures[3].transpose(1, 2, 0).astype(float)
    expected = (whole - whole.min()) / (whole.max() - whole.min())
    np.testing.assert_allclose(first[..., :3], expected)


def test_the_matrix_shows_its_numbers_and_the_accuracy():
    axes = plot_confusion(LABELS, LOGITS).axes[0]
    numbers = {(round(t.get_position()[1]), round(t.get_position()[0])): t for t in axes.texts}
    matrix = confusion_matrix(LABELS, LOGITS)
    assert {place: int(t.get_text()) for place, t in numbers.items()} == {
        place: n for place, n in np.ndenumerate(matrix) if n
    }
    assert axes.get_title() == "accuracy 33.33%: 4 mistakes among 6"
    np.testing.assert_array_equal(picture(axes), matrix - np.diag(np.diag(matrix)))


def test_many_classes_are_drawn_without_numbers():
    labels = np.arange(100)
    figure = plot_confusion(labels, (labels + 1) % 100)
    assert not figure.axes[0].texts
    assert rendered(figure).any()


@pytest.mark.parametrize("count", [1, 2, 10, 26])
def test_as_many_mistakes_are_shown_as_there_are_up_to_worst(count):
    labels = np.zeros(count, int)
    figure = plot_confusion(labels, labels + 1, RNG.random((count, 5, 5)))
    assert len(mistakes(figure)) == min(count, 25)
    assert rendered(figure).any()


def test_without_a_mistake_the_matrix_stands_alone():
    figure = plot_confusion([0, 1], [0, 1], np.zeros((2, 4, 4)))
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title() == "accuracy 100.00%: 0 mistakes among 2"


# All of them


def all_pictures(**options):
    return [
        plot_filters(RNG.normal(size=(6, 1, 5, 5)), **options),
        plot_feature_maps(small_net(), image(), **options),
        plot_history(LOGS, **options),
        plot_confusion(LABELS, LOGITS, IMAGES, **options),
    ]


def test_pictures_are_figures_of_pyplot_that_draw_without_a_warning(recwarn):
    for figure in all_pictures():
        assert isinstance(figure, matplotlib.figure.Figure)
        assert figure.number in plt.get_fignums()
        assert len(np.unique(rendered(figure).reshape(-1, 4), axis=0)) > 10
    assert not recwarn.list


@pytest.mark.parametrize("sub", [False, True])
def test_pictures_are_drawn_on_the_figure_that_is_given(sub):
    before = plt.get_fignums()
    for i in range(4):
        figure = matplotlib.figure.Figure(layout="constrained")
        place = figure.subfigures(1, 2)[1] if sub else figure
        drawn = [
            lambda f: plot_filters(RNG.normal(size=(6, 1, 5, 5)), figure=f),
            lambda f: plot_feature_maps(small_net(), image(), figure=f),
            lambda f: plot_history(LOGS, figure=f),
            lambda f: plot_confusion(LABELS, LOGITS, IMAGES, figure=f),
        ][i](place)
        assert drawn is place
        assert figure.axes
        rendered(figure)
    assert plt.get_fignums() == before


def test_importing_fastnn_or_its_pictures_brings_in_no_matplotlib():
    program = (
        "import sys, fastnn\n"
        "print('fastnn.plotting' in sys.modules)\n"
        "import fastnn.plotting\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('matplotlib', 'PIL')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n[]\n", done.stderr


def test_the_package_has_its_pictures_without_an_import_of_ones_own():
    program = (
        "import sys, fastnn as fn\n"
        "print('plotting' in dir(fn), 'fastnn.plotting' in sys.modules)\n"
        "print(fn.plotting.plot_history.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True False\nfastnn.plotting.history\n", done.stderr
    with pytest.raises(AttributeError, match="'fastnn' has no attribute 'plottin'"):
        fn.plottin  # noqa: B018


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[plot\]"'):
        plot_history(LOGS)


CASES = {
    "filters: a vector": (lambda: plot_filters(np.zeros(3)), "model_or_weight: .*(3,)"),
    "filters: nothing": (lambda: plot_filters(np.zeros((0, 1, 3, 3))), "model_or_weight"),
    "filters: text": (lambda: plot_filters("conv1"), "model_or_weight"),
    "filters: no weight": (lambda: plot_filters(nn.ReLU()), "model_or_weight: ReLU has no weight"),
    "filters: no shape": (lambda: plot_filters(nn.Linear(4, 2)), "shape: the weight"),
    "filters: another shape": (lambda: plot_filters(nn.Linear(4, 2), (1, 5)), "shape: .* 4, got"),
    "filters: a needless shape": (lambda: plot_filters(np.zeros((1, 1, 2, 2)), (2, 2)), "shape"),
    "filters: no columns": (lambda: plot_filters(np.ones((1, 1, 2, 2)), columns=0), "columns"),
    "maps: no model": (lambda: plot_feature_maps(3, image()), "model must be a Module, got int"),
    "maps: a row": (lambda: plot_feature_maps(small_net(), np.zeros(64)), r"x: .*\(64,\)"),
    "maps: two": (lambda: plot_feature_maps(small_net(), np.zeros((2, 1, 8, 8))), "x: expected"),
    "maps: float64": (lambda: plot_feature_maps(small_net(), np.zeros((1, 8, 8))), "float64"),
    "maps: two channels": (
        lambda: plot_feature_maps(nn.Sequential(nn.Conv2d(2, 3, 3)), np.zeros((2, 8, 8), np.float32)),
        "expected 1 or 3 channels",
    ),
    "maps: an unknown layer": (
        lambda: plot_feature_maps(small_net(), image(), "conv1"),
        "layer: 'conv1' is no module",
    ),
    "maps: a layer of rows": (
        lambda: plot_feature_maps(small_net(), image(), "6"),
        r"layer: '6' .*\['0', '1', '2', '3', '4'\]",
    ),
    "maps: no image anywhere": (
        lambda: plot_feature_maps(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), image()),
        "no layer",
    ),
    "history: nothing": (lambda: plot_history({}), "history: expected .* at least one epoch"),
    "history: no epoch": (lambda: plot_history({"loss": []}), "history"),
    "history: a number": (lambda: plot_history(3), "history must be a path"),
    "history: no file": (lambda: plot_history("/nonexistent"), "no file /nonexistent"),
    "confusion: floats": (lambda: confusion_matrix([0.5], [1]), "labels: .* float64"),
    "confusion: rows": (lambda: confusion_matrix([0], [[1]]), "predictions: .*scores"),
    "confusion: a negative class": (lambda: confusion_matrix([-1], [1]), "labels: .* from 0"),
    "confusion: lengths": (lambda: confusion_matrix([0, 1], [1]), "predictions: expected 2"),
    "confusion: classes": (lambda: confusion_matrix([0, 3], [1, 1], 3), "labels: expected classes from 0 to 2, got 3"),
    "confusion: no classes": (lambda: confusion_matrix([0], [0], 0), "classes"),
    "confusion: images": (
        lambda: plot_confusion([0, 1], [1, 1], np.zeros((3, 4, 4))),
        r"images: .*\(3, 4, 4\)",
    ),
    "confusion: two channels": (
        lambda: plot_confusion([0, 1], [1, 1], np.zeros((2, 2, 4, 4))),
        "images: expected 1 or 3 channels",
    ),
    "confusion: names": (lambda: plot_confusion([0, 2], [1, 1], names=["a", "b"]), "classes from 0 to 1, got 2"),
    "confusion: worst": (lambda: plot_confusion([0], [1], worst=-1), "worst"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_a_message_that_names_it_and_leaves_no_figure(name):
    call, message = CASES[name]
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message):
        call()
    assert not plt.get_fignums()


EPOCHS = ["", "nan", "inf", "-1", "0.5", "1e308", "9007199254740994"]


@pytest.mark.parametrize(
    "text",
    ["", "loss\n1\n", "epoch,loss\n1\n", "epoch,loss\n1,two\n", "epoch,loss\n1,\x002\n"]
    + [f"epoch,loss\n1,2\n{epoch},2\n" for epoch in EPOCHS],
)
def test_a_damaged_history_is_refused_by_name(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=r"history\.csv: no history of a run"):
        plot_history(tmp_path)


@pytest.mark.parametrize("text", ["epoch,loss\n", "epoch\n1\n", "epoch,samples_per_second\n1,2\n"])
def test_a_history_of_nothing_is_refused_by_name(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=r"history\.csv: expected the logs of at least one epoch"):
        plot_history(tmp_path)


def test_more_logs_than_a_picture_holds_are_refused(tmp_path):
    (tmp_path / "history.csv").write_text("epoch," + ",".join(map(str, range(101))) + "\n" + "1," * 101 + "1\n")
    with pytest.raises(ValueError, match=r"history\.csv: 101 logs are more than the 100"):
        plot_history(tmp_path)


@pytest.mark.parametrize(
    "values",
    ["1e308,-1e308", "1e308,1e308", "inf,-inf", "nan,nan", ",", "5e-324,1e300", "-1e300,1e300", "1e301,1"],
)
@pytest.mark.parametrize("name", ["loss", "accuracy"])
@pytest.mark.filterwarnings("ignore")
def test_numbers_beyond_what_an_axis_shows_are_left_out(tmp_path, name, values):
    (tmp_path / "history.csv").write_text(f"epoch,{name},val_{name}\n1,{values}\n2,1,2\n")
    figure = plot_history(tmp_path)
    assert rendered(figure).any()
    low, high = figure.axes[0].get_ylim()
    assert -1e301 < low < high < 1e301


@pytest.mark.parametrize("name", ["$x_{$", "$\\frac$", "a\x1b[2J", "x" * 3000], ids=lambda name: name[:8])
@pytest.mark.filterwarnings("ignore")
def test_names_are_drawn_letter_by_letter(tmp_path, name):
    (tmp_path / "history.csv").write_text(f"epoch,{name}\n1,2\n")
    figure = plot_history(tmp_path)
    assert rendered(figure).any() and len(figure.axes[0].get_title("left")) < 200
    figure = plot_confusion([0, 1], [1, 1], np.zeros((2, 4, 4)), names=[name[:20], "b"])
    assert rendered(figure).any()


# fastnn plot


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = ["--hidden", "16", "--epochs", "2", "--no-shifts", "--seed", "1"]
    assert main(["train", *settings, "--json", "--out", str(folder)]) == 0
    return folder


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_plot_draws_a_run_into_its_folder(trained, capsys):
    capsys.readouterr()
    assert main(["plot", str(trained)]) == 0
    names = ["history.png", "filters.png", "confusion.png"]
    assert capsys.readouterr().out.split() == [str(trained / name) for name in names]
    assert all(is_png(trained / name) for name in names)
    assert not plt.get_fignums()


def test_plot_draws_into_another_folder_and_tells_it_as_json(trained, tmp_path, capsys):
    out = tmp_path / "deep" / "pictures"
    capsys.readouterr()
    assert main(["plot", str(trained), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == str(trained)
    assert sorted(told["files"]) == sorted(str(path) for path in out.iterdir())
    assert all(is_png(path) for path in out.iterdir())


def test_plot_shows_the_maps_of_a_network_that_convolves(trained, tmp_path, monkeypatch):
    from fastnn.cli.run import Run

    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    monkeypatch.setattr(Run, "load_model", lambda self: net)
    asked = []

    def spy(model, x, layer):
        asked.append((x, layer))
        return plot_feature_maps(model, x, layer)

    monkeypatch.setattr("fastnn.plotting.plot_feature_maps", spy)
    out = str(tmp_path)
    assert main(["plot", str(trained), "--out", out, "--sample", "7", "--layer", "1"]) == 0
    assert sorted(os.listdir(tmp_path)) == [
        "confusion.png",
        "feature_maps.png",
        "filters.png",
        "history.png",
    ]
    ((x, layer),) = asked
    np.testing.assert_array_equal(x, fn.data.digits("test")[0][7])
    assert layer == "1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "360"], "--sample: expected a test image from 0 to 359, got 360"),
        (["--sample", "-1"], "expected an integer from 0"),
        (["--layer", "1"], "--layer: no layer of mlp makes images; leave --layer 1 out"),
    ],
)
def test_plot_refuses_what_the_run_has_not(trained, capsys, options, message):
    capsys.readouterr()
    try:
        status = main(["plot", str(trained), *options])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_plot_of_a_folder_that_is_none_is_refused(tmp_path, capsys):
    assert main(["plot", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_plot_without_matplotlib_says_what_to_install(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", str(trained)]) == 2
    assert 'pip install "fastnn[plot]"' in capsys.readouterr().err


def test_plot_and_bench_close_the_figures_that_they_write(trained, tmp_path, capsys):
    picture = tmp_path / "profile.png"
    assert main(["bench", str(trained), "--seconds", "0.01", "--plot", str(picture)]) == 0
    assert is_png(picture)
    assert not plt.get_fignums()
    assert main(["plot", str(trained), "--out", str(tmp_path)]) == 0
    assert not plt.get_fignums()


def test_bench_without_matplotlib_says_so_before_it_measures(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("fastnn.cli.bench._measure", lambda *_: pytest.fail("it measured"))
    capsys.readouterr()
    assert main(["bench", str(trained), "--plot", str(tmp_path / "profile.png")]) == 2
    assert 'pip install "fastnn[plot]"' in capsys.readouterr().err


# ---- decision boundaries ----


CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)


def colours(figure):
    (axes,) = figure.axes
    (image,) = axes.images
    return image.get_array()


def test_a_plane_is_coloured_by_the_class_with_the_largest_logit():
    picture = plot_decision_boundary(lambda p: np.stack([0 * p[:, 0], 9 * (p[:, 0] - 0.5)], 1), CORNERS, [0, 0, 1, 1])
    plane = colours(picture)
    assert plane.shape == (200, 200, 3)
    left, right = plane[:, :80].reshape(-1, 3), plane[:, 120:].reshape(-1, 3)
    assert (left[:, 2] > left[:, 0]).all() and (right[:, 0] > right[:, 2]).all()  # blue, orange
    assert np.all(plane[:, 98:102] > plane[:, [0, 0, 0, 0]])  # paler where it is not sure
    (axes,) = picture.axes
    (edge,) = (path for set_ in axes.collections if hasattr(set_, "levels") for path in set_.get_paths())
    assert np.abs(edge.vertices[:, 0] - 0.5).max() < 0.01


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_is_that_of_class_1(shape):
    one = plot_decision_boundary(lambda p: (4 * (p[:, 1] - 0.3)).reshape(shape), CORNERS, [0, 1, 0, 1])
    two = plot_decision_boundary(
        lambda p: np.stack([-2 * (p[:, 1] - 0.3), 2 * (p[:, 1] - 0.3)], 1), CORNERS, [0, 1, 0, 1]
    )
    np.testing.assert_allclose(colours(one), colours(two), atol=1e-6)


def test_a_boundary_is_that_of_evaluation_mode_and_leaves_the_model_alone():
    model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.9), nn.Linear(8, 3))
    one = plot_decision_boundary(model, CORNERS, [0, 1, 2, 1])
    np.testing.assert_array_equal(colours(one), colours(plot_decision_boundary(model, CORNERS, [0, 1, 2, 1])))
    assert model.training


def test_points_of_one_class_without_a_boundary_are_drawn():
    picture = plot_decision_boundary(lambda p: 1 + 0 * p[:, 0], CORNERS[:1], [1])
    assert not [set_ for set_ in picture.axes[0].collections if hasattr(set_, "levels")]


def test_a_boundary_is_drawn_on_a_part_of_a_figure():
    from fastnn.plotting import pyplot

    figure = pyplot().figure()
    left, right = figure.subfigures(1, 2)
    assert plot_decision_boundary(lambda p: p[:, 0], CORNERS, [0, 0, 1, 1], figure=right) is right
    assert len(right.axes) == 1 and not left.axes


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(x=np.zeros((4, 3))), r"x: expected points of shape \(N, 2\), got \(4, 3\)"),
        (dict(labels=[0, 1]), "labels: expected 4 classes from 0"),
        (dict(labels=[0, 1, 0.5, 1]), "labels: expected 4 classes from 0"),
        (dict(model=lambda p: np.zeros((len(p), 2, 2))), r"model: expected logits .* got shape \(40000, 2, 2\)"),
        (dict(resolution=1), "resolution"),
    ],
)
def test_what_has_no_boundary_is_refused(change, words):
    with pytest.raises((TypeError, ValueError), match=words):
        plot_decision_boundary(**(dict(model=lambda p: p[:, 0], x=CORNERS, labels=[0, 1, 1, 0]) | change))


# What a Monitor has measured


def measurements():
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    monitor = fn.train.Monitor(every=2, by="step", bins=6)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(fn.data.moons(64, seed=0), batch_size=8, callbacks=[monitor], verbose=False)
    return monitor.measurements


def test_a_figure_of_each_parameter_or_layer_is_a_line():
    found = measurements()
    for what, names in (("update_ratio", ["0.weight", "0.bias", "2.weight", "2.bias"]), ("dead", ["0", "1", "2"])):
        axes = plot_measurements(found, what).axes[0]
        assert [line.get_label() for line in axes.get_lines()] == names
        for line, name in zip(axes.get_lines(), names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [2, 4, 6, 8])
            np.testing.assert_array_equal(line.get_ydata(), found[what][name])
    assert axes.get_yscale() == "linear"
    assert plot_measurements(found).axes[0].get_yscale() == "log"
    assert rendered(plot_measurements(found, figure=plt.figure())).std() > 0


def test_histograms_are_columns_of_shares():
    found = measurements()
    figure = plot_histograms(found, "activation", "1")
    counts, edges = found.histogram("activation", "1")
    columns = figure.axes[0].collections
    assert len(columns) == 4
    np.testing.assert_allclose(columns[2].get_array().ravel(), counts[2] / counts[2].sum())
    np.testing.assert_allclose(columns[2].get_coordinates()[:, 0, 1], edges[2])
    np.testing.assert_array_equal(columns[2].get_coordinates()[0, :, 0], [5, 7])  # side by side
    assert rendered(figure).std() > 0


def test_measurements_that_are_not_there_are_refused():
    found = measurements()
    for call, error, match in (
        (lambda: plot_measurements([]), TypeError, "measurements"),
        (lambda: plot_measurements(found, "deaf"), ValueError, "what"),
        (lambda: plot_measurements(fn.train.Measurements()), ValueError, "no update_ratio among the 0"),
        (lambda: plot_histograms(found, "weight", "7"), ValueError, "no histogram of weight '7'"),
        (lambda: plot_histograms(found, "height", "0"), ValueError, "kind"),
    ):
        with pytest.raises(error, match=match):
            call()
