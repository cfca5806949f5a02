"""Pictures of a sweep: what was tried against what it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ocr.drawing.plots import figure_of, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3  # plots side by side
MAX_LABEL = 18  # characters of a choice


class Scored(Protocol):
    """A trial with its settings, mean score and spread over seeds."""

    @property
    def varied(self) -> Mapping[str, str]: ...
    @property
    def mean(self) -> float: ...
    @property
    def spread(self) -> float | None: ...


def plot_parallel(rows: Sequence[Scored], path: Path, metric: str, maximize: bool) -> Path:
    """Parallel coordinates: a line per trial through its settings to its score, the best trial drawn last.

    Args:
        rows: finished trials, the best first.
        path: of the picture.
        metric: name of the score.
        maximize: whether more is better.
    """
    keys = _keys(rows)
    columns = [_positions([row.varied.get(key, "") for row in rows]) for key in keys]
    scores = np.array([row.mean for row in rows])
    columns.append(_scaled(scores, [f"{v:.4f}" for v in (scores.min(), scores.max())]))
    figure, axes = figure_of(1, width=max(5.0, 1.6 * len(columns)))
    axis = axes[0, 0]
    shade = columns[-1][0] if maximize else 1 - columns[-1][0]
    for k in reversed(range(len(rows))):
        ys = [positions[k] for positions, _ in columns]
        axis.plot(
            range(len(columns)), ys, color=_colour(shade[k]), lw=2.4 if k == 0 else 1.2, alpha=1 if k == 0 else 0.7
        )
    for x, (_, ticks) in enumerate(columns):
        axis.axvline(x, color="0.3", lw=1)
        for y, label in ticks:
            axis.annotate(label, (x, y), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center",
                          bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5})  # fmt: skip
    axis.set_xticks(range(len(columns)), [*(_short(key) for key in keys), metric], fontsize=8, rotation=20, ha="right")
    axis.set_yticks([])
    axis.set(title=f"{len(rows)} trials, dark: the better", xlim=(-0.1, len(columns) - 0.6))
    return save(figure, path)


def plot_settings(rows: Sequence[Scored], path: Path, metric: str, importance: Mapping[str, float]) -> Path:
    """The score over each setting, with the spread over seeds, and how much of it each setting explains.

    Args:
        rows: finished trials.
        path: of the picture.
        metric: name of the score.
        importance: share of the variance by setting; may be empty.
    """
    keys = _keys(rows)
    plots = len(keys) + bool(importance)
    figure, axes = figure_of(min(plots, COLUMNS), -(-plots // COLUMNS))
    flat = list(axes.ravel())
    for axis, key in zip(flat, keys):
        _plot_setting(axis, rows, key, metric)
    if importance:
        names = sorted(importance, key=lambda key: importance[key])
        flat[len(keys)].barh([_short(name) for name in names], [importance[name] for name in names], color="#0000c8")
        flat[len(keys)].set(title="importance (fANOVA)", xlabel="share of the variance", xlim=(0, 1))
    for axis in flat[plots:]:
        axis.set_axis_off()
    return save(figure, path)


def _plot_setting(axis: Axes, rows: Sequence[Scored], key: str, metric: str) -> None:
    texts = [row.varied.get(key, "") for row in rows]
    numbers = _numbers(texts)
    if numbers is None:
        labels = sorted(set(texts))
        xs: Any = [labels.index(text) for text in texts]
        axis.set_xticks(range(len(labels)), [label[:MAX_LABEL] for label in labels], fontsize=7)
    else:
        xs = numbers
        if numbers.min() > 0 and numbers.max() > 10 * numbers.min():
            axis.set_xscale("log")
            axis.set_xticks([], minor=True)
    axis.errorbar(xs, [row.mean for row in rows], yerr=[row.spread or 0 for row in rows], fmt="o", color="#0000c8",
                  ecolor="0.6", markersize=4, capsize=2)  # fmt: skip
    axis.set(xlabel=key, ylabel=metric)
    axis.grid(alpha=0.3)


def _keys(rows: Sequence[Scored]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row.varied))


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _positions(texts: Sequence[str]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Places 0..1 on an axis for the values of a setting, and the axis's labels."""
    numbers = _numbers(texts)
    if numbers is None:
        labels = sorted(set(texts))
        step = 1 / max(1, len(labels) - 1)
        return np.array([labels.index(t) * step for t in texts]), [
            (k * step, v[:MAX_LABEL]) for k, v in enumerate(labels)
        ]
    ends = [f"{value:.3g}" for value in (numbers.min(), numbers.max())]
    logarithmic = numbers.min() > 0 and numbers.max() > 10 * numbers.min()
    return _scaled(np.log(numbers) if logarithmic else numbers, ends)


def _scaled(values: np.ndarray, ends: Sequence[str]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    span = values.max() - values.min()
    if not span:
        return np.full(len(values), 0.5), [(0.5, ends[0])]
    return (values - values.min()) / span, [(0.0, ends[0]), (1.0, ends[1])]


def _colour(share: float) -> tuple[float, float, float]:
    """From light grey to the blue of what is right."""
    low, high = np.array([0.82, 0.82, 0.85]), np.array([0.0, 0.0, 0.78])
    red, green, blue = low + (high - low) * share**2
    return float(red), float(green), float(blue)


def _short(key: str) -> str:
    return ".".join(key.split(".")[-2:])
