"""The picture of a sweep: the curve of the best, parallel coordinates, the metric against each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcrun.metrics.picture import blank, plain, save
from hpcrun.sweeps.scales import Scale, told
from hpcrun.sweeps.shown import LOOKS, Axis, Picture, Shown, curve_of_best, in_front, room, spread

_WIDTH = 13.0
_IN_ROW = 9
"""Axes of parallel coordinates in a row, without the metric's."""

_LINES, _SILENT = 1500, 150
"""So many lines are drawn: with values, and without. More of them are one surface."""

_UNSET = -0.12
"""Where those stand that do not have a hyperparameter: below (or left of) its axis."""

_RED, _GREY, _DARK = "#d62728", "#8a8a8a", "#333333"
_MARKERS = dict(zip(LOOKS, ("o", "v", "s", "X", "o"), strict=True))


def draw(picture: Picture, path: Path) -> None:
    """Write the picture to a file. Raises HpcrunError where it cannot be written."""
    in_rows = [picture.axes[at : at + _IN_ROW] for at in range(0, len(picture.axes), _IN_ROW)]
    columns = min(4, max(2, len(picture.axes)))
    rows = math.ceil(len(picture.axes) / columns)
    heights = [3.9, *([3.5 * len(in_rows), (2.6 if columns > 2 else 3.2) * rows] if in_rows else [])]
    figure = blank(_WIDTH, sum(heights))
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_top(parts[0], picture)
    if in_rows:
        colours = _Colours(picture)
        _draw_rows(parts[1], picture, in_rows, colours)
        _draw_each(parts[2], picture, (rows, columns), colours)
    save(figure, path)


class _Colours:
    """The colour of a value: the better, the darker."""

    def __init__(self, picture: Picture) -> None:
        from matplotlib import colormaps
        from matplotlib.colors import LinearSegmentedColormap

        name = "viridis" if picture.goal == "minimize" else "viridis_r"
        # Without its palest part, which is hard to see on white.
        ends = (0.0, 0.92) if picture.goal == "minimize" else (0.08, 1.0)
        steps = [colormaps[name](ends[0] + (ends[1] - ends[0]) * step / 255) for step in range(256)]
        self.map, self._scale = LinearSegmentedColormap.from_list("metric", steps), picture.scale

    def __call__(self, trials: Sequence[Shown]) -> Any:
        return self.map([_place(self._scale, each) for each in trials])


def _place(scale: Scale, trial: Shown) -> float:
    """Where a trial's value stands on the metric's scale; at its lower end without one."""
    found = None if trial.value is None else scale.place(trial.value)
    return 0.0 if found is None else found


def _draw_top(part: Any, picture: Picture) -> None:
    part.suptitle(
        plain(picture.title, 90), fontsize=12, fontweight="bold", x=0.012, ha="left", parse_math=False
    )
    axes, beside = part.subplots(1, 2, width_ratios=[2.9, 1])
    _draw_curve(axes, picture)
    _write_best(beside, picture)


def _draw_curve(axes: Any, picture: Picture) -> None:
    trials, scale = picture.trials, picture.scale
    many = len(trials) > 1000
    size = min(36.0, max(4.0, 6000 / len(trials)))
    for look in LOOKS:
        some = [(at, each) for at, each in enumerate(trials, 1) if each.look == look]
        valued = [(at, each) for at, each in some if each.value is not None]
        if valued:
            style = _style(look, size)
            places = [_place(scale, each) for _, each in valued]
            axes.scatter(
                [at for at, _ in valued], places, label=look, rasterized=many, alpha=0.75, zorder=2, **style
            )
        silent = [at for at, each in some if each.value is None]
        if silent and look == "Failed":
            label = "Failed, without a value"
            axes.scatter(silent, [-0.09] * len(silent), s=size, marker="x", c=_GREY, lw=0.9, label=label)
    curve = [
        (at + 1, scale.place(value) or 0.0)
        for at, value in curve_of_best([t.value for t in trials], picture.goal)
    ]
    xs, ys = [at for at, _ in curve], [place for _, place in curve]
    axes.plot(
        [*xs, len(trials) + 0.5],
        [*ys, ys[-1]],
        drawstyle="steps-post",
        c=_RED,
        lw=1.6,
        label="the best so far",
        zorder=3,
    )
    axes.scatter(xs[-1:], ys[-1:], marker="*", s=170, c=_RED, edgecolors="white", lw=0.8, zorder=4)
    if picture.earlier is not None:
        axes.axhline(
            scale.place(picture.earlier), c=_DARK, lw=1.0, ls="--", label="the best of earlier sweeps"
        )
    axes.set_xlim(0.5, len(trials) + 0.5)
    axes.set_ylim(-0.13, 1.07)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("trials, in the order in which they ended", fontsize=9)
    _put_metric(axes, picture, named=True)
    axes.grid(True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    columns = 7 if len(axes.get_legend_handles_labels()[1]) <= 7 else 4
    legend = axes.legend(
        fontsize=8, ncols=columns, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0),
        borderaxespad=0.2, handletextpad=0.4, columnspacing=1.4,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([30.0])  # where there are many, their own can hardly be seen


def _style(look: str, size: float) -> dict[str, Any]:
    """How the trials of one state look where they are not coloured by their values."""
    colour = _GREY if look == "Failed" else "#4878a8"
    if look == "not ended":
        return {"s": size, "marker": "o", "facecolors": "none", "edgecolors": colour, "linewidths": 1.1}
    return {"s": size, "marker": _MARKERS[look], "c": colour, "linewidths": 0}


def _put_metric(axes: Any, picture: Picture, *, named: bool) -> None:
    ticks = picture.scale.ticks()
    axes.set_yticks([place for place, _ in ticks], [text for _, text in ticks], fontsize=8)
    if named:
        words = plain(picture.metric, 40) + (" (log)" if picture.scale.log else "")
        axes.set_ylabel(words, fontsize=9, parse_math=False)


def _write_best(axes: Any, picture: Picture) -> None:
    """The best trial's hyperparameters, as text."""
    axes.set_axis_off()
    best = picture.best
    lines = [f"{name} = {told(best.parameters[name])}" for name in _named(picture) if name in best.parameters]
    same = [f"{name} = {told(value)}" for name, value in picture.same.items()]
    rows = [
        (f"★ trial {best.number} ({best.name})", _RED, "bold"),
        (f"{plain(picture.metric, 24)} {best.value:.7g}", _RED, "bold"),
    ]
    rows += [(line, _DARK, "normal") for line in _cut(lines, 10 - min(len(same), 4))]
    if same:
        rows += [("", _DARK, "normal"), ("in all trials", _GREY, "bold")]
        rows += [(line, _GREY, "normal") for line in _cut(same, 4)]
    if picture.beyond:
        edge = picture.scale.high if picture.goal == "minimize" else picture.scale.low
        side = "above" if picture.goal == "minimize" else "below"
        rows += [("", _DARK, "normal"), (f"at the edge: {picture.beyond} {side} {edge:.4g}", _GREY, "normal")]
    if picture.omitted:
        rows.append((f"{picture.omitted} more hyperparameters are not drawn", _GREY, "normal"))
    for at, (line, colour, weight) in enumerate(rows):
        axes.text(
            0, 1 - at / 16, line, color=colour, weight=weight, fontsize=9, va="top", parse_math=False,
            transform=axes.transAxes,
        )  # fmt: skip


def _named(picture: Picture) -> list[str]:
    return [axis.name for axis in picture.axes]


def _cut(lines: list[str], most: int) -> list[str]:
    shown = [plain(line, 40) for line in lines]
    return shown if len(shown) <= most else [*shown[: most - 1], f"… {len(shown) - most + 1} more"]


def _draw_rows(part: Any, picture: Picture, in_rows: Sequence[Sequence[Axis]], colours: _Colours) -> None:
    """Parallel coordinates: every trial is a line through its hyperparameters to its value."""
    from matplotlib.cm import ScalarMappable

    grid = part.subplots(len(in_rows), 1, squeeze=False)[:, 0]
    for axes, some in zip(grid, in_rows, strict=True):
        _draw_lines(axes, picture, some, colours)
    valued = sum(each.value is not None for each in picture.trials)
    if valued > _LINES:
        words = f"{_LINES} of {valued} trials: the best {_LINES // 10}, and of the others evenly"
        grid[-1].text(
            0.5, -0.02, words, fontsize=8, color=_GREY, ha="center", va="top", transform=grid[-1].transAxes
        )
    bar = part.colorbar(ScalarMappable(cmap=colours.map), ax=[*grid], pad=0.01, aspect=28 * len(in_rows))
    ticks = picture.scale.ticks()
    bar.set_ticks([place for place, _ in ticks], labels=[text for _, text in ticks], fontsize=8)
    bar.set_label(plain(picture.metric, 40), fontsize=9, parse_math=False)


def _draw_lines(axes: Any, picture: Picture, some: Sequence[Axis], colours: _Colours) -> None:
    from matplotlib.collections import LineCollection

    def line(trial: Shown) -> list[tuple[float, float]]:
        found = [(float(at), _at(axis, trial, len(picture.trials))) for at, axis in enumerate(some)]
        return found if trial.value is None else [*found, (float(len(some)), _place(picture.scale, trial))]

    valued = in_front(picture.trials, picture.goal, _LINES)
    silent = [each for each in picture.trials if each.value is None and each.look == "Failed"][:_SILENT]
    if silent and len(some) > 1:
        lines = LineCollection(
            [line(each) for each in silent], colors=_GREY, linestyles="dotted", linewidths=0.8
        )
        lines.set(alpha=_faint(len(silent)), zorder=1, rasterized=len(silent) > 500)
        axes.add_collection(lines)
    lines = LineCollection([line(each) for each in valued], colors=colours(valued), linewidths=1.1)
    lines.set(alpha=_faint(len(valued)), zorder=2, rasterized=len(valued) > 500)
    axes.add_collection(lines)
    best = line(picture.best)
    axes.plot(*zip(*best, strict=True), c="white", lw=4.2, zorder=4, solid_joinstyle="round")
    axes.plot(*zip(*best, strict=True), c=_RED, lw=2.2, zorder=5, solid_joinstyle="round")
    axes.scatter(*best[-1], marker="*", s=190, c=_RED, edgecolors="white", lw=0.8, zorder=7, clip_on=False)
    axes.set_xlim(-0.03 * (len(some) + 1), len(some) + 0.04 * (len(some) + 1))
    axes.set_ylim(_UNSET - 0.06 if any(axis.gaps for axis in some) else -0.04, 1.04)
    axes.set_axis_off()
    unit = (len(some) + 1) / 7
    for at, axis in enumerate(some):
        _put_axis(axes, at, axis.name, axis.scale, unit, gaps=axis.gaps)
    _put_axis(axes, len(some), picture.metric, picture.scale, unit, gaps=False, last=True)


def _faint(count: int) -> float:
    """How much of what is behind is hidden by a line, of so many."""
    return float(min(0.85, max(0.06, 60 / max(1, count) ** 0.85)))


def _at(axis: Axis, trial: Shown, count: int) -> float:
    """A trial's place on an axis; those in one place stand side by side, as far as there is room."""
    found = axis.place(trial)
    if found is None:
        return _UNSET + 0.04 * spread(trial.number)
    return found + room(len(axis.scale.options), count) * spread(trial.number)


def _put_axis(
    axes: Any, at: int, name: str, scale: Scale, unit: float, *, gaps: bool, last: bool = False
) -> None:
    axes.plot([at, at], [0, 1], c=_DARK, lw=1.0, zorder=6)
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.72}
    ticks = scale.ticks()
    if gaps:
        ticks = [(_UNSET, "not set"), *ticks]
    for place, text in ticks:
        axes.plot([at, at + 0.02 * unit], [place, place], c=_DARK, lw=1.0, zorder=6)
        axes.text(
            at + 0.035 * unit, place, plain(text, 14), fontsize=7.5, va="center", zorder=8, bbox=box,
            parse_math=False, color=_GREY if place < 0 else _DARK,
        )  # fmt: skip
    words = plain(name, 26) + (" (log)" if scale.log else "")
    turned = len(words) > 16
    axes.text(
        at, 1.06, words, fontsize=9, weight="bold", ha="left" if turned else "center", va="bottom",
        rotation=18 if turned else 0, rotation_mode="anchor", color=_RED if last else _DARK, parse_math=False,
    )  # fmt: skip


def _draw_each(part: Any, picture: Picture, shape: tuple[int, int], colours: _Colours) -> None:
    """The metric against each hyperparameter."""
    grid = part.subplots(*shape, squeeze=False)
    for at, axes in enumerate(grid.ravel()):
        if at < len(picture.axes):
            _draw_against(axes, picture, picture.axes[at], colours)
            _put_metric(axes, picture, named=at % shape[1] == 0)
            axes.tick_params(labelleft=at % shape[1] == 0)
        else:
            axes.set_visible(False)


def _draw_against(axes: Any, picture: Picture, axis: Axis, colours: _Colours) -> None:
    count = len(picture.trials)
    wide = room(len(axis.scale.options), count)

    def place(trial: Shown) -> float:
        found = axis.place(trial)
        return _UNSET + 0.06 * spread(trial.number) if found is None else found + wide * spread(trial.number)

    size = min(26.0, max(3.0, 5000 / len(picture.trials)))
    for look in LOOKS:
        some = [each for each in picture.trials if each.look == look and each.value is not None]
        if some:
            # The border alone has the colour where a trial has not ended.
            inner = "none" if look == "not ended" else colours(some)
            axes.scatter(
                [place(each) for each in some], [_place(picture.scale, each) for each in some], s=size,
                marker=_MARKERS[look], facecolors=inner, edgecolors=colours(some), linewidths=0.8, alpha=0.85,
                rasterized=len(some) > 500, zorder=2,
            )  # fmt: skip
    silent = [place(each) for each in picture.trials if each.value is None and each.look == "Failed"]
    axes.scatter(silent, [-0.1] * len(silent), s=size, marker="x", c=_GREY, lw=0.8, zorder=1)
    best = picture.best
    axes.scatter(
        place(best),
        _place(picture.scale, best),
        marker="*",
        s=150,
        c=_RED,
        edgecolors="white",
        lw=0.8,
        zorder=4,
    )
    ticks = axis.scale.ticks()
    if axis.gaps:
        ticks = [(_UNSET, "not set"), *ticks]
        axes.axvline(_UNSET / 2, c=_GREY, lw=0.6, ls=":")
    crowded = sum(len(plain(text, 12)) + 2 for _, text in ticks) > 38
    axes.set_xticks(
        [at for at, _ in ticks], [plain(text, 12) for _, text in ticks], fontsize=8, parse_math=False,
        **({"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}),
    )  # fmt: skip
    axes.set_xlim(_UNSET - 0.06 if axis.gaps else -0.07, 1.07)
    axes.set_ylim(-0.15, 1.07)
    words = plain(axis.name, 30) + (" (log)" if axis.scale.log else "")
    axes.set_xlabel(words, fontsize=9, weight="bold", parse_math=False)
    axes.grid(True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
