"""Pictures of networks and of how they learn; drawn with matplotlib, an extra.

Install it with ``pip install "fastnn[plot]"``; it is imported at the first picture. Each function
returns its Figure: a new one of pyplot, so that ``plt.show()`` and notebooks show it, or the one
that was given to be drawn on. `confusion_matrix` is plain NumPy.
"""

from fastnn.plotting.canvas import pyplot
from fastnn.plotting.confusion import confusion_matrix, plot_confusion
from fastnn.plotting.decision import plot_decision_boundary
from fastnn.plotting.filters import plot_feature_maps, plot_filters
from fastnn.plotting.history import plot_history
from fastnn.plotting.monitor import plot_histograms, plot_measurements
from fastnn.plotting.profile import plot_profile
from fastnn.plotting.range_test import plot_range_test

__all__ = [
    "confusion_matrix",
    "plot_confusion",
    "plot_decision_boundary",
    "plot_feature_maps",
    "plot_filters",
    "plot_histograms",
    "plot_history",
    "plot_measurements",
    "plot_profile",
    "plot_range_test",
    "pyplot",
]
