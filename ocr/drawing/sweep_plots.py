"""Pictures of a sweep: what was tried against what it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ocr.drawing.plots import figure_of, save
from ocr.drawing.polygons import FOUND, hex_code

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3  # plots side by side
MAX_LABEL = 18  # characters of a choice
BLUE = hex_code(FOUND)
Columns = Mapping[str, Sequence[Any]]


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether values are positive and span more than a factor of ten, as learning rates do."""
    return min(values) > 0 and max(values) > 10 * min(values)


def plot_parallel(columns: Columns, scores: Sequence[float], path: Path, metric: str, maximize: bool) -> Path:
    """Parallel coordinates: a line per trial through its settings to its score, the best trial drawn last.

    Args:
        columns: values of each setting by trial, the best trial first; numbers or texts.
        scores: of the trials, by the name ``metric``; more is better where ``maximize``.
    """
    values = np.array(scores)
    axes_of = [_positions(column) for column in columns.values()]
    axes_of.append(_scaled(values, [f"{v:.4f}" for v in (values.min(), values.max())]))
    figure, axes = figure_of(1, width=max(5.0, 1.6 * len(axes_of)))
    axis = axes[0, 0]
    shade = axes_of[-1][0] if maximize else 1 - axes_of[-1][0]
    for k in reversed(range(len(values))):
        ys = [positions[k] for positions, _ in axes_of]
        width, alpha = (2.4, 1.0) if k == 0 else (1.2, 0.7)
        axis.plot(range(len(axes_of)), ys, color=_colour(shade[k]), lw=width, alpha=alpha)
    for x, (_, ticks) in enumerate(axes_of):
        axis.axvline(x, color="0.3", lw=1)
        for y, label in ticks:
            axis.annotate(label, (x, y), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center",
                          bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5})  # fmt: skip
    axis.set_xticks(range(len(axes_of)), [*map(_short, columns), metric], fontsize=8, rotation=20, ha="right")
    axis.set_yticks([])
    axis.set(title=f"{len(values)} trials, dark: the better", xlim=(-0.1, len(axes_of) - 0.6))
    return save(figure, path)


def plot_settings(
    columns: Columns, scores: Sequence[float], spreads: Sequence[float], path: Path, metric: str,
    importance: Mapping[str, float],
) -> Path:  # fmt: skip
    """The score over each setting, with the spread over seeds, and how much of it each setting explains.

    Args:
        columns, scores, metric: as of :func:`plot_parallel`.
        spreads: standard deviations over seeds; 0 for a single one.
        importance: share of the variance by setting; may be empty.
    """
    plots = len(columns) + bool(importance)
    figure, axes = figure_of(min(plots, COLUMNS), -(-plots // COLUMNS))
    flat = list(axes.ravel())
    for axis, (key, values) in zip(flat, columns.items()):
        _plot_setting(axis, values, scores, spreads)
        axis.set(xlabel=key, ylabel=metric)
    if importance:
        names = sorted(importance, key=lambda key: importance[key])
        bars = flat[len(columns)]
        bars.barh([_short(name) for name in names], [importance[name] for name in names], color=BLUE)
        bars.set(title="importance (fANOVA)", xlabel="share of the variance", xlim=(0, 1))
    for axis in flat[plots:]:
        axis.set_axis_off()
    return save(figure, path)


def _plot_setting(axis: Axes, values: Sequence[Any], scores: Sequence[float], spreads: Sequence[float]) -> None:
    xs = values
    if isinstance(values[0], str):
        labels, xs = _numbered(values)
        axis.set_xticks(range(len(labels)), labels, fontsize=7)
    elif is_logarithmic(values):
        axis.set_xscale("log")
        axis.set_xticks([], minor=True)
    axis.errorbar(xs, scores, yerr=spreads, fmt="o", color=BLUE, ecolor="0.6", markersize=4, capsize=2)
    axis.grid(alpha=0.3)


def _positions(values: Sequence[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Places 0..1 on an axis for the values of a setting, and the axis's labels."""
    if isinstance(values[0], str):
        labels, indices = _numbered(values)
        step = 1 / max(1, len(labels) - 1)
        return np.array(indices) * step, [(k * step, label) for k, label in enumerate(labels)]
    ends = [f"{value:.3g}" for value in (min(values), max(values))]
    return _scaled(np.log(values) if is_logarithmic(values) else np.array(values), ends)


def _numbered(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Labels of an axis for some choices, and which of them each text is."""
    choices = sorted(set(texts))
    return [choice[:MAX_LABEL] for choice in choices], [choices.index(text) for text in texts]


def _scaled(values: np.ndarray, ends: Sequence[str]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    span = values.max() - values.min()
    if not span:
        return np.full(len(values), 0.5), [(0.5, ends[0])]
    return (values - values.min()) / span, [(0.0, ends[0]), (1.0, ends[1])]


def _colour(share: float) -> tuple[float, float, float]:
    """From light grey to :data:`BLUE`."""
    low, high = np.array([0.82, 0.82, 0.85]), np.array(FOUND) / 255
    red, green, blue = low + (high - low) * share**2
    return float(red), float(green), float(blue)


def _short(key: str) -> str:
    return ".".join(key.split(".")[-2:])
