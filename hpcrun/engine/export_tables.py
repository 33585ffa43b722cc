"""Metrics and runs as tables for other programs: CSV by the standard library, Parquet by pyarrow."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hpcrun.engine.export_points import told_folder
from hpcrun.engine.measures import series_of
from hpcrun.engine.private import private_file
from hpcrun.engine.sidebyside import SideBySide, side_by_side
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.rows import POINT_COLUMNS, cell, rows_of
from hpcrun.metrics.series import Series, number


def export_csv(history: History, records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write ``metrics.csv``, a row a value, and ``runs.csv``, a row a run. Raises HpcrunError."""
    import csv

    told_folder(folder.absolute())
    points, runs = folder / "metrics.csv", folder / "runs.csv"
    with private_file(points) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(POINT_COLUMNS)
        for record in records:
            for series in series_of(history, record):
                writer.writerows(rows_of(record.id, series))
        text.flush()
        text.detach()
    with private_file(runs) as file:
        file.write(side_by_side(history, records).to_csv().encode("utf-8", "backslashreplace"))
    return [points, runs]


def check_parquet() -> None:
    """Raises HpcrunError where Parquet cannot be written."""
    import importlib.util

    if importlib.util.find_spec("pyarrow") is None:
        raise HpcrunError(
            "Parquet is written by pyarrow, which is not installed",
            hint="pip install 'hpcrun-toolkit[parquet]'; or export csv, which takes nothing.",
        )


def export_parquet(history: History, records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write ``metrics.parquet`` and ``runs.parquet``, as :func:`export_csv`, with types.

    Numbers stand in ``value`` (a double), and all else in ``text``: text as it is, the rest as JSON, and so
    integers that a double does not hold. Raises HpcrunError.
    """
    check_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    told_folder(folder.absolute())
    points, runs = folder / "metrics.parquet", folder / "runs.parquet"
    schema = pa.schema(
        [
            *(("run", pa.string()), ("name", pa.string()), ("step", pa.float64())),
            *(("time", pa.timestamp("us", tz="UTC")), ("value", pa.float64()), ("text", pa.string())),
            *(("rank", pa.int32()), ("attempt", pa.int32()), ("kind", pa.string()), ("type", pa.string())),
        ]
    )
    with private_file(points) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for record in records:
            for series in series_of(history, record):
                writer.write_table(pa.table(_columns(record.id, series), schema=schema))
    with private_file(runs) as file:
        pq.write_table(_runs_table(side_by_side(history, records)), file, compression="zstd")
    return [points, runs]


def _columns(run: str, series: Series) -> dict[str, list[Any]]:
    count = len(series.values)
    plain = series.kind == "scalar"
    values = [number(v) if plain and _fits(v) else None for v in series.values]
    return {
        "run": [run] * count,
        "name": [_valid(series.name)] * count,
        "step": [None if step is None else float(step) for step in series.steps],
        "time": [_moment(time) for time in series.times],
        "value": values,
        "text": [
            _words(v) if known is None else None for v, known in zip(series.values, values, strict=True)
        ],
        "rank": [series.rank] * count,
        "attempt": [max(-(2**31), min(2**31 - 1, attempt)) for attempt in series.attempts],
        "kind": [series.kind] * count,
        "type": [type(value).__name__ for value in series.values],
    }


def _fits(value: Any) -> bool:
    """Whether a double holds it."""
    return isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) <= 2**53)


def _words(value: Any) -> str | None:
    return None if value is None else _valid(value if isinstance(value, str) else str(cell(value)))


def _valid(text: str) -> str:
    """Text without halves of characters, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "backslashreplace").decode()


def _moment(time: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(time, timezone.utc) if math.isfinite(time) else None
    except (ValueError, OverflowError, OSError):
        return None


def _runs_table(found: SideBySide) -> Any:
    import pyarrow as pa

    columns: dict[str, Any] = {"run": pa.array(found.runs, pa.string())}
    for name, values in _runs_columns(found):
        kinds = {type(value) for value in values if value is not None}
        if kinds <= {int} and all(value is None or abs(value) < 2**63 for value in values):
            columns[name] = pa.array(values, pa.int64())
        elif kinds == {bool}:
            columns[name] = pa.array(values, pa.bool_())
        elif kinds <= {int, float}:
            columns[name] = pa.array([None if v is None else number(v) for v in values], pa.float64())
        else:
            columns[name] = pa.array([_words(value) for value in values], pa.string())
    return pa.table(columns)


def _runs_columns(found: SideBySide) -> Iterator[tuple[str, list[Any]]]:
    for row in found.rows:
        yield _valid(f"{row.section}.{row.key}"), row.values
