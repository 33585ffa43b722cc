"""What stands in the documents that Azure ML's kinds of metrics are."""

from __future__ import annotations

from typing import Any


def matrix_of(value: Any) -> tuple[list[str], list[list[Any]]] | None:
    """Labels and rows of a confusion matrix, square and whole; None for anything else."""
    data = value.get("data", value) if isinstance(value, dict) else None
    if not isinstance(data, dict):
        return None
    labels, rows = data.get("class_labels"), data.get("matrix")
    if not isinstance(labels, list) or not isinstance(rows, list) or len(rows) != len(labels):
        return None
    if not labels or not all(isinstance(row, list) and len(row) == len(labels) for row in rows):
        return None
    return [str(label) for label in labels], rows
