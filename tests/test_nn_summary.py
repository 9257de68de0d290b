"""Module.summary: a table of layers, parameters and memory."""

import numpy as np
import pytest

from fastnn import nn


def cells(text):
    return [line.split() for line in text.splitlines()]


def test_layers_stand_in_order_with_output_shapes_and_parameters():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 225), nn.ReLU(), nn.Linear(225, 10, bias=False))
    rows = cells(model.summary((1, 28, 28)))
    assert rows[0] == ["layer", "type", "output", "parameters"]
    assert rows[2:6] == [
        ["0", "Flatten", "(N,", "784)"],
        ["1", "Linear", "(N,", "225)", "176,625"],
        ["2", "ReLU", "(N,", "225)"],
        ["3", "Linear", "(N,", "10)", "2,250"],
    ]


def test_totals_count_shared_parameters_once_and_frozen_ones_apart():
    layer = nn.Linear(8, 8)
    model = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(8, 2))
    model[-1].requires_grad_(False)
    text = model.summary(8)
    assert "parameters: 90, of which trained: 72" in text
    assert "memory: parameters 360 B, inference of a batch of 1 " in text
    assert [row[-1] for row in cells(text)[2:6]] == ["72", "8)", "8)", "18"]


def test_memory_is_that_of_the_plan_for_the_batch():
    model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 10))
    text = model.summary(64, batch_size=128)
    program = model.plan(np.zeros((128, 64), np.float32))
    assert f"inference of a batch of 128 {program.arena_bytes / 1024:.1f} KiB" in text


def test_a_network_of_ones_own_shows_dotted_names_and_every_call():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.scale = nn.Parameter(np.ones(4, np.float32))

        def forward(self, x, z):
            return self.fc(x) * self.scale, self.fc(z)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x, z):
            return self.block(x, z)

    rows = cells(Net().summary((4,), (4,)))[2:5]
    assert rows == [
        ["block.fc", "Linear", "(N,", "4)", "20"],
        ["block.fc", "Linear", "(N,", "4)"],
        ["block", "Block", "(N,", "4),", "(N,", "4)", "4"],
    ]


def test_a_single_layer_is_its_own_row():
    assert cells(nn.Linear(3, 2).double().summary(3))[2] == ["Linear", "Linear", "(N,", "2)", "8"]


def test_a_summary_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    x = np.ones((2, 3), np.float32)
    model.forward_train(x)
    model.summary(3)
    model.backward(np.ones((2, 2), np.float32))
    assert model.training


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.summary(), ValueError, "shape is missing"),
        (lambda m: m.summary(0), ValueError, "shape must be"),
        (lambda m: m.summary(3.0), TypeError, "shape must be"),
        (lambda m: m.summary(3, (4,)), TypeError, "shape must be"),
        (lambda m: m.summary(3, batch_size=0), ValueError, "batch_size"),
        (lambda m: m.summary(4), ValueError, "input has shape"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.Linear(3, 2))


def test_a_prompt_and_a_notebook_show_the_table_and_not_its_escapes():
    text = nn.Linear(8, 8).summary(8)
    assert isinstance(text, str)
    assert repr(text) == str(text) and "\n" in repr(text)
