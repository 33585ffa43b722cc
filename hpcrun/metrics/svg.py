"""Curves as SVG, to stand in a page: no script, nothing from elsewhere, and any text as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from hpcrun.metrics.thinning import thin

COLOURS = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999933", "#ee7733"),
    *("#0077bb", "#cc3311", "#009988", "#882255"),
)
"""Told apart by those who see few colours, on light and on dark."""

_POINTS = 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 8, 24, 22


@dataclass(frozen=True)
class Curve:
    """A curve and what it is called; ``colour`` is a place among :data:`COLOURS`."""

    label: str
    places: Sequence[float]
    numbers: Sequence[float]
    colour: int


def chart(title: str, curves: Sequence[Curve], *, width: int = 420, height: int = 220) -> str:
    """A diagram of the curves in one scale; what is not finite is a gap."""
    xs = [place for curve in curves for place in curve.places if math.isfinite(place)]
    ys = [value for curve in curves for value in curve.numbers if math.isfinite(value)]
    low_x, high_x = _wide(xs)
    low_y, high_y = _wide(ys)
    inner_w, inner_h = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def at(place: float, value: float) -> str:
        x = _LEFT + inner_w * _share(place, low_x, high_x)
        y = _TOP + inner_h * (1 - _share(value, low_y, high_y))
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{_text(title)}">',
        f'<text x="{_LEFT}" y="15" class="title">{_text(title, 60)}</text>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{inner_w}" height="{inner_h}" class="frame"/>',
    ]
    for share, end in ((0.0, low_y), (0.5, low_y / 2 + high_y / 2), (1.0, high_y)):
        y = _TOP + inner_h * (1 - share)
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" class="tick" text-anchor="end">{end:.4g}</text>')
    for anchor, x, end in (("start", _LEFT, low_x), ("end", width - _RIGHT, high_x)):
        parts.append(f'<text x="{x}" y="{height - 6}" class="tick" text-anchor="{anchor}">{end:.6g}</text>')
    for curve in curves:
        colour = COLOURS[curve.colour % len(COLOURS)]
        parts.append(f'<g stroke="{colour}" fill="none"><title>{_text(curve.label)}</title>')
        parts += [_line(line, colour) for line in _lines(curve, at)]
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def _line(points: Sequence[str], colour: str) -> str:
    if len(points) == 1:
        x, _, y = points[0].partition(",")
        return f'<circle cx="{x}" cy="{y}" r="2.2" fill="{colour}"/>'
    return f'<polyline points="{" ".join(points)}"/>'


def _lines(curve: Curve, at: Callable[[float, float], str]) -> Iterator[list[str]]:
    """The stretches of a curve between its gaps."""
    line: list[str] = []
    for index in thin(curve.numbers, _POINTS):
        place, value = curve.places[index], curve.numbers[index]
        if math.isfinite(place) and math.isfinite(value):
            line.append(at(place, value))
        elif line:
            yield line
            line = []
    if line:
        yield line


def _wide(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest, never the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    return low, high


def _share(value: float, low: float, high: float) -> float:
    # By halves: the whole width may be more than a float can hold.
    span = high / 2 - low / 2
    return (value / 2 - low / 2) / span if span else 0.5


def _text(text: str, most: int = 200) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(shown if len(shown) <= most else f"{shown[: most - 1]}…", quote=True)
