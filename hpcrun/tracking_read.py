"""What a process has logged, read back by itself: pure standard library, Python 3.8 and later.

Under Azure ML's rules: of one value the value, of several a list; lists, rows and tables of one name go on
where the last one ended.
"""

from __future__ import annotations

import json
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def metrics_of(path: Path, name: str | None = None) -> dict[str, Any]:
    """By name; of one ``name`` alone if one is given. What cannot be read is left out."""
    kinds: dict[str, str] = {}
    values: dict[str, list[Any]] = {}
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    for line in data.splitlines():
        try:
            point = json.loads(line)
            known, value, kind = point["n"], point["v"], point.get("k", "scalar")
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        if name in (None, known) and kinds.setdefault(known, kind) == kind:
            values.setdefault(known, []).append(value)
    return {known: _joined(kinds[known], found) for known, found in values.items()}


def _joined(kind: str, found: list[Any]) -> Any:
    if kind == "list":
        return [item for values in found for item in values]
    if len(found) == 1:
        return found[0]
    if kind == "row":
        columns = list(dict.fromkeys(column for row in found for column in row))
        return {column: [row.get(column) for row in found] for column in columns}
    if kind == "table":
        columns = list(dict.fromkeys(column for table in found for column in table))
        return {column: [v for table in found for v in table.get(column, ())] for column in columns}
    return found
