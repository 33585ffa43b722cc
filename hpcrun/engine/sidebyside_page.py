"""Runs side by side as one HTML file: no script, nothing from elsewhere, whatever the names and values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from hpcrun.engine.sidebyside_rows import Row
from hpcrun.metrics.series import Series
from hpcrun.metrics.svg import COLOURS, Curve, chart

MOST_CHARTS = 60
"""So many diagrams in a page; the table has all."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .15rem .8rem .15rem .3rem; vertical-align: top; }
td, th[scope=row] { border-top: 1px solid #8884; }
th[scope=row] { font-weight: normal; white-space: nowrap; }
td { font-family: ui-monospace, monospace; font-size: 12px; max-width: 32rem; overflow-wrap: anywhere; }
tr.differs > * { background: #f5b70126; }
tr.differs > th[scope=row] { font-weight: bold; }
td.none { opacity: .4; }
.wide { overflow-x: auto; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
svg text { fill: currentColor; font-size: 10px; }
svg text.title { font-size: 12px; font-weight: bold; }
svg .frame { fill: none; stroke: currentColor; stroke-opacity: .3; }
svg polyline { stroke-width: 1.4; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(runs: Sequence[str], rows: Sequence[Row], series: Sequence[Sequence[Series]]) -> str:
    """The page; see :meth:`hpcrun.engine.sidebyside.SideBySide.to_html`."""
    names = [_name(rows, at, run) for at, run in enumerate(runs)]
    heads = "".join(
        f'<th scope="col"><span class="key" style="background:{COLOURS[at % len(COLOURS)]}"></span>'
        f"{_text(name)}</th>"
        for at, name in enumerate(names)
    )
    parts = [
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        "<meta name='viewport' content='width=device-width'><meta name='referrer' content='no-referrer'>",
        f"<title>{len(runs)} runs side by side</title><style>{_STYLE}</style></head><body>",
        f"<h1>{len(runs)} runs side by side</h1>",
    ]
    for section in dict.fromkeys(row.section for row in rows):
        lines = "\n".join(_row(row) for row in rows if row.section == section)
        parts.append(
            f"<h2>{_text(section)}</h2><div class='wide'><table><tr><th></th>{heads}</tr>\n"
            f"{lines}</table></div>"
        )
    charts = [*_charts(names, series)]
    if charts:
        parts.append(f"<h2>curves</h2><div class='charts'>{''.join(charts)}</div>")
    return "\n".join([*parts, "</body></html>\n"])


def _name(rows: Sequence[Row], at: int, run: str) -> str:
    names = [row.values[at] for row in rows if (row.section, row.key) == ("run", "display_name")]
    last = run.rpartition("_")[2]
    return f"{names[0]} ({last})" if names and names[0] else last


def _row(row: Row) -> str:
    cells = "".join(_cell(value) for value in row.values)
    kind = ' class="differs"' if row.differs else ""
    return f'<tr{kind}><th scope="row">{_text(row.key)}</th>{cells}</tr>'


def _cell(value: Any) -> str:
    if value is None:
        return '<td class="none">-</td>'
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"<td>{_text(text)}</td>"


def _text(text: str) -> str:
    return escape("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))


def _charts(names: Sequence[str], series: Sequence[Sequence[Series]]) -> Iterator[str]:
    """Those curves that several runs have; all, where there are none such."""
    curves: dict[str, list[Curve]] = {}
    for at, those_of_run in enumerate(series):
        for each in those_of_run:
            places, numbers = each.line() if each.is_curve else ([], [])
            if len(numbers) > 1 and any(map(math.isfinite, numbers)):
                curves.setdefault(each.name, []).append(Curve(names[at], places, numbers, at))
    shared = {name: those for name, those in curves.items() if len(those) > 1} or curves
    for name in [*shared][:MOST_CHARTS]:
        yield chart(name, shared[name])
