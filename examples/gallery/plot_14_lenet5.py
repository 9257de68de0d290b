"""
LeNet-5 looked into
===================

The convolutional network of LeCun et al. (1998) on handwritten digits: the filters of its first layer, the feature maps
that it makes of a digit, the confusion matrix and its worst mistakes, many of which a reader would make, too.
"""

import os

import matplotlib.pyplot as plt
from _images import handwritten_digits

import fastnn as fn
from fastnn import nn, optim, plotting

QUICK = "FASTNN_QUICK" in os.environ
(x, labels), (xt, lt) = handwritten_digits()
if QUICK:
    x, labels = x[:3000], labels[:3000]

fn.manual_seed(0)
if x.shape[-1] == 28:
    model = fn.models.lenet5()
else:  # the small digits, 8 x 8: the same idea at half the depth
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 3), nn.Tanh(),
        nn.Flatten(), nn.Linear(64, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip
trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=2e-3))
decay = fn.callbacks.LearningRateScheduler(lambda epoch: 2e-3 * 0.7**epoch)
history = trainer.fit(
    (x, labels), validation_data=(xt, lt), epochs=3 if QUICK else 10, batch_size=64, callbacks=[decay], verbose=0
)
print("test:", trainer.evaluate((xt, lt)))

# %%
# All on one picture: each plot is drawn on a part of it.
figure = plt.figure(figsize=(15, 12), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.6])
left, middle, right = upper.subfigures(1, 3, width_ratios=[1, 1.3, 1.2])
plotting.plot_filters(model, figure=left)
plotting.plot_feature_maps(model, xt[0], figure=middle)
plotting.plot_history(history, figure=right)
plotting.plot_confusion(lt, trainer.predict(xt), xt, worst=25, figure=lower)
plt.show()
