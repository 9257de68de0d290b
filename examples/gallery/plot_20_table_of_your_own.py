"""
A table of one's own
====================

Breast cancer, 569 samples of 30 measurements (Street, Wolberg, Mangasarian, 1993; from scikit-learn, an extra): the
columns are brought to mean 0 and deviation 1 by what the *training* part says; the rarer class weighs more in the loss;
a part is held out to stop early. Then what counts beyond accuracy: the confusion matrix, and whether a probability of
80% means that 80% are ill. The saved model carries its standardisation along and serves single samples.
"""

import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import fastnn as fn
from fastnn import nn, optim

table = load_breast_cancer()
x, ill = table.data.astype(np.float32), 1 - table.target  # there, 1 is benign
order = np.random.default_rng(0).permutation(len(x))
training, validation, test = np.split(order, [340, 450])


def network():
    first = nn.Normalization(30).adapt(x[training])  # mean and variance are saved with the weights
    return nn.Sequential(first, nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))


fn.manual_seed(0)
model = network()
counts = np.bincount(ill[training])
loss = nn.CrossEntropyLoss(weight=(len(training) / (2 * counts)).astype(np.float32))
trainer = fn.Trainer(model, loss, optim.AdamW(model.parameters(), lr=3e-3))
stop = fn.callbacks.EarlyStopping(patience=10)
history = trainer.fit(
    (x[training], ill[training]), validation_data=(x[validation], ill[validation]),
    epochs=100, batch_size=32, callbacks=[stop], verbose=0,
)  # fmt: skip
print("test:", trainer.evaluate((x[test], ill[test])))

# %%
# Saved, loaded into a new model, frozen for serving: one sample at a time.
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "cancer.safetensors")
    model.save(path)
    served = network()
    served.load(path)
serve = served.frozen()
probability = np.array([nn.functional.softmax(serve(row[None]), 1)[0, 1] for row in x[test]])

figure = plt.figure(figsize=(17, 4.4), layout="constrained")
left, middle, right = figure.subfigures(1, 3, width_ratios=[8, 4.5, 4.5])
fn.plotting.plot_history(history, figure=left)
fn.plotting.plot_confusion(ill[test], (probability > 0.5).astype(int), names=["benign", "malignant"], figure=middle)
ax = right.subplots()
bins = np.clip((probability * 5).astype(int), 0, 4)
there = [b for b in range(5) if (bins == b).any()]
ax.plot([0, 1], [0, 1], color="0.8")
ax.plot([probability[bins == b].mean() for b in there], [ill[test][bins == b].mean() for b in there], "o-")
ax.set(title="calibration", xlabel="predicted probability of malignant", ylabel="share that is")
plt.show()
