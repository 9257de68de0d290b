"""Where the time of a plan goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn import _check
from fastnn.lowering.profile import Profile
from fastnn.plotting.canvas import EDGE, INK, TRAINING, VALIDATION, new_figure

if TYPE_CHECKING:
    from fastnn.plotting.canvas import Canvas


def plot_profile(profile: Profile, figure: Canvas | None = None) -> Canvas:
    """Where the time of a plan goes: each op's time by thread, and how near it is to a limit.

    The limit is the machine's peak of arithmetic or its memory, whichever the op is nearer to; more
    than 100% of memory means that the data was in caches. Ops that take less than a hundredth of
    the time are drawn as one.

    Parameters
    ----------
    profile : Profile
        What ``plan.profile(...)`` returned.
    figure : Figure or SubFigure, optional
        Drawn on instead of a new one.

    Returns
    -------
    Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If it is no profile, or nothing ran.
    """
    _check.instance("profile", profile, Profile, "a Profile, as plan.profile() returns")
    if not profile.busy:
        raise ValueError("profile: no op took any time")
    shown = [op for op in profile.ops if op.busy >= 0.01 * profile.busy]
    small = [op for op in profile.ops if op.busy < 0.01 * profile.busy]
    labels = [f"{op.name}  {op.shapes.rpartition('-> ')[2]}" for op in shown]
    seconds = [op.seconds for op in shown]
    if small:
        labels.append(f"{len(small)} others")
        seconds.append(tuple(map(sum, zip(*(op.seconds for op in small), strict=True))))
    figure = new_figure(figure, 11, 1.6 + 0.26 * len(labels))
    times, limits = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    left = np.zeros(len(labels))
    for thread, each in enumerate(np.array(seconds).T * 1e6):
        times.barh(range(len(labels)), each, left=left, label=f"thread {thread}")
        left += each
    times.set_yticks(range(len(labels)), labels, fontsize=8)
    times.invert_yaxis()
    times.set_xlabel("time, us")
    times.legend(fontsize=8)
    threads = profile.roofline.threads
    rate = sum(op.flops for op in profile.ops) / profile.wall / 1e9
    times.set_title(f"{1e6 * profile.wall:.0f} us a run, {threads} thread(s), {rate:.1f} GF/s", fontsize=10)
    for row, op in enumerate(shown):
        arithmetic = profile.of_peak(op) >= profile.of_memory(op)
        share = profile.of_peak(op) if arithmetic else profile.of_memory(op)
        amount = op.flops if arithmetic else op.bytes
        limits.barh(row, 100 * share, color=TRAINING if arithmetic else VALIDATION)
        text = f" {amount / op.busy / 1e9:.1f} {'GF/s' if arithmetic else 'GB/s'} a thread"
        limits.text(100 * share, row, text, va="center", fontsize=7, color=INK)
    limits.axvline(100, color=EDGE, linewidth=1)
    limits.margins(x=0.35)
    limits.set_xlabel("% of the limit")
    limits.set_title("blue: of the arithmetic peak, red: of memory", fontsize=10)
    return figure
