"""Metrics that are no curves, shown in full: rows, tables, matrices, images, documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcrun.cli.text import plain_table, printable, value_text
from hpcrun.metrics.documents import matrix_of
from hpcrun.metrics.series import Series
from hpcrun.units import human_bytes

SHOWN = 40
"""So many rows are shown, the last of them."""


def document_lines(series: Series, folder: Path) -> Iterator[str]:
    """All of a series that is no curve; ``folder`` is the run's, below which its images lie."""
    yield f"{printable(series.name)}: {series.kind.replace('_', ' ')}, {_times(len(series.values))}"
    if series.kind == "row":
        yield from _rows([value for value in series.values if isinstance(value, dict)])
    elif series.kind == "image":
        yield from (_image(value, folder) for value in series.values[-SHOWN:])
    else:
        yield from _document(series.values[-1])  # each is one of its own


def _times(count: int) -> str:
    return "told once" if count == 1 else f"told {count} times"


def _image(value: Any, folder: Path) -> str:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str):
        return f"  {value_text(value)}"
    try:
        size = f"  {human_bytes((folder / path).stat().st_size)}"
    except (OSError, ValueError):
        size = "  not here"
    return f"  {printable(path)}{size}"


def _rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    columns = [*dict.fromkeys(column for row in rows for column in row)]
    cells = [[value_text(row[column]) if column in row else "-" for column in columns] for row in rows]
    yield from _grid(columns, cells)


def _document(value: Any) -> Iterator[str]:
    data = value.get("data", value) if isinstance(value, dict) else value
    matrix = matrix_of(data)
    if matrix is not None:
        labels, counts = matrix
        # As scikit-learn has it: a row for each true class.
        cells = [[label, *map(value_text, row)] for label, row in zip(labels, counts, strict=True)]
        yield from _grid(["true \\ predicted", *labels], cells)
    elif isinstance(data, dict) and data and all(_flat(column) for column in data.values()):
        length = max(len(column) for column in data.values())
        cells = [
            [value_text(column[at]) if at < len(column) else "-" for column in data.values()]
            for at in range(length)
        ]
        yield from _grid([*map(str, data)], cells)
    else:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        yield from (f"  {printable(line)}" for line in text.splitlines())


def _flat(column: Any) -> bool:
    return isinstance(column, list) and not any(isinstance(one, (list, dict)) for one in column)


def _grid(heads: list[str], cells: list[list[str]]) -> Iterator[str]:
    if not heads:
        return
    shown = [[printable(cell) for cell in row] for row in cells[-SHOWN:]]
    if len(cells) > SHOWN:
        yield f"  … {len(cells) - SHOWN} rows before"
    yield from (f"  {line}" for line in plain_table([printable(head) for head in heads], shown).splitlines())
