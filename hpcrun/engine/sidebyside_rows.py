"""A row of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SECTIONS = ("run", "parameters", "metrics", "configuration", "environment", "git")


@dataclass(frozen=True)
class Row:
    """A key of a section, and its value in each of the runs; None where a run has none."""

    section: str
    key: str
    values: list[Any]

    @property
    def differs(self) -> bool:
        # As Python compares them, 1 would be 1.0 and True; a script sees the difference.
        return any(repr(value) != repr(self.values[0]) for value in self.values)
