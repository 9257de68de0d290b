"""Training that is stopped and goes on from its checkpoint ends with the same bits as training that was not."""

import os
import tempfile

import fastnn as fn
from fastnn import nn, optim

x, y = fn.data.digits("train", flatten=True)


def trainer():
    fn.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    return fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


whole = trainer()
whole.fit((x, y), epochs=6, seed=0, verbose=0)

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "checkpoint.safetensors")
    first = trainer()
    first.fit((x, y), epochs=3, seed=0, verbose=0)
    first.save_checkpoint(path)

    second = trainer()
    second.fit((x, y), epochs=6, seed=0, verbose=0, resume=path)

for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
    assert (a.data == b.data).all()
print("the same bits; loss", second.history.history["loss"][-1])
