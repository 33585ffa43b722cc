"""Metrics as lines of text: a table of curves, and one of all else."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hpcrun.cli.text import coloured, plain_table, printable, short_id, styled, value_text
from hpcrun.cli.watch import RANK_COLOURS
from hpcrun.metrics.documents import matrix_of
from hpcrun.metrics.series import Series, summary
from hpcrun.metrics.sparkline import BLOCKS, PLAIN, sparkline

CURVE_LEAST, CURVE, CURVE_MOST = 8, 24, 60
"""Characters of a curve: what it gives way to on a narrow terminal, what it has where there is none, and what
it grows to on a wide one."""

NAME_LEAST = 12

_DROPPED = ("STEP", "MIN", "MAX", "COUNT", "CURVE")
"""What gives way on a narrow terminal, in this order."""


@dataclass(frozen=True)
class Measured:
    """A run and the series that are to be shown of it."""

    run: str
    series: Sequence[Series]


def levels() -> str:
    """What curves are drawn with: blocks, where the output has them."""
    if os.environ.get("TERM") == "linux" and sys.stdout.isatty():
        return PLAIN
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return BLOCKS


def curves(found: Sequence[Measured], *, width: int | None, log: bool = False) -> list[str]:
    """The table of all that are curves; of several runs one below the other, in one scale. ``width`` is that
    of the terminal, None where there is none. Empty where there are none."""
    lines = [
        (name, at, run, each)
        for name in dict.fromkeys(each.name for run in found for each in run.series if each.is_curve)
        for at, run in enumerate(found)
        for each in run.series
        if each.is_curve and each.name == name
    ]
    if not lines:
        return []
    several = len(found) > 1
    heads = ["NAME", *(["RUN"] if several else []), "COUNT", "LAST", "MIN", "MAX", "STEP"]
    cells = [_cells(name, run.run, each, several) for name, _, run, each in lines]
    heads, cells, room = _fitted(heads, cells, width)
    if room:
        drawn = _drawn([(name, at, each) for name, at, _, each in lines], room, log, several)
    else:
        drawn = [""] * len(lines)
    widths = [max(cells_of(row[i]) for row in (heads, *cells)) for i in range(len(heads))]
    left = {"NAME", "RUN"}
    texts = [_row(heads, row, widths, left) for row in cells]
    head = _row(heads, heads, widths, left) + ("  CURVE" if room else "")
    lines_out = [f"{text}  {curve}".rstrip() for text, curve in zip(texts, drawn, strict=True)]
    return [_bold(head.rstrip()), *lines_out]


def _cells(name: str, run: str, series: Series, several: bool) -> list[str]:
    known = summary(series)
    texts = (known.last, known.low, known.high, known.step)
    last, low, high, step = (value_text(each, 24) for each in texts)
    return [
        printable(name),
        *([short_id(run)] if several else []),
        str(known.count),
        last if known.count else "-",
        low if known.low is not None else "-",
        high if known.high is not None else "-",
        step if known.step is not None else "-",
    ]


def _fitted(
    heads: list[str], cells: list[list[str]], width: int | None
) -> tuple[list[str], list[list[str]], int]:
    """The columns that find room, and how many characters are left for the curves."""
    if width is None:
        return heads, cells, CURVE

    def taken() -> int:
        return sum(max(cells_of(row[i]) for row in (heads, *cells)) + 2 for i in range(len(heads)))

    curve = True
    for drop in _DROPPED:
        need = CURVE_LEAST if curve else -2
        over = taken() + need - width
        longest = max(cells_of(row[0]) for row in cells)
        if over > 0 and longest > NAME_LEAST:
            cells = [[cut(row[0], max(NAME_LEAST, longest - over)), *row[1:]] for row in cells]
        if taken() + need <= width:
            break
        if drop == "CURVE":
            curve = False
        elif drop in heads:
            at = heads.index(drop)
            heads = heads[:at] + heads[at + 1 :]
            cells = [row[:at] + row[at + 1 :] for row in cells]
    return heads, cells, min(CURVE_MOST, max(0, width - taken())) if curve else 0


def _drawn(lines: Sequence[tuple[str, int, Series]], room: int, log: bool, several: bool) -> list[str]:
    numbers = [each.numbers() for _, _, each in lines]
    bounds: dict[str, tuple[float, float]] = {}
    for (name, _, _), values in zip(lines, numbers, strict=True):
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
        if finite:
            low, high = bounds.get(name, (math.inf, -math.inf))
            bounds[name] = min(low, min(finite)), max(high, max(finite))
    return [
        styled(
            sparkline(values, room, log=log, levels=levels(), bounds=bounds.get(name)).rstrip(),
            RANK_COLOURS[at % len(RANK_COLOURS)] if several else "cyan",
        )
        for (name, at, _), values in zip(lines, numbers, strict=True)
    ]


def _row(heads: Sequence[str], cells: Sequence[str], widths: Sequence[int], left: set[str]) -> str:
    return "  ".join(
        cell + " " * (width - cells_of(cell)) if head in left else " " * (width - cells_of(cell)) + cell
        for head, cell, width in zip(heads, cells, widths, strict=True)
    )


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if coloured() else text


def cells_of(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, most: int) -> str:
    if cells_of(text) <= most:
        return text
    while cells_of(text) >= most:
        text = text[:-1]
    return f"{text}…"


def others(found: Sequence[Measured]) -> list[str]:
    """The table of what is no curve, in brief. Empty where there is none."""
    several = len(found) > 1
    rows = [
        [
            printable(each.name),
            *([short_id(run.run)] if several else []),
            each.kind.replace("_", " "),
            str(len(each.values)),
            brief(each),
        ]
        for run in found
        for each in run.series
        if not each.is_curve
    ]
    heads = ["NAME", *(["RUN"] if several else []), "KIND", "COUNT", "LAST"]
    return plain_table(heads, rows).splitlines() if rows else []


def brief(series: Series) -> str:
    """The last value of what is no curve, in a few words."""
    value = series.values[-1]
    if not isinstance(value, dict):
        return value_text(value)
    if series.kind == "image":
        return value_text(value.get("path"), 60)
    if series.kind == "row":
        return ", ".join(f"{printable(str(key))}={value_text(one, 16)}" for key, one in value.items())
    if series.kind == "table":
        rows = max((len(one) if isinstance(one, list) else 1 for one in value.values()), default=0)
        return f"{len(value)} column{'' if len(value) == 1 else 's'}, {rows} row{'' if rows == 1 else 's'}"
    matrix = matrix_of(value)
    if matrix is not None:
        return f"{len(matrix[0])} x {len(matrix[0])}: {printable(', '.join(matrix[0]))}"
    data = value.get("data", value)
    return printable(", ".join(map(str, data))) if isinstance(data, dict) else value_text(data)
