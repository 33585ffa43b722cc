"""Runs and their children: what the index is asked of them, and which run may be whose child."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcrun.errors import HistoryError, NotFoundError

DESCENDANTS = (
    "WITH RECURSIVE family (id, seq) AS (SELECT id, seq FROM runs WHERE parent = ?"
    " UNION SELECT runs.id, runs.seq FROM runs JOIN family ON runs.parent = family.id)"
    " SELECT id FROM family ORDER BY seq DESC"
)
"""Children are always younger than their parents, so each comes before its own."""

COUNT = "SELECT state, count(*) FROM runs WHERE parent = ? GROUP BY state ORDER BY state"
PARENT = "SELECT experiment, archived FROM runs WHERE id = ?"


def check_parent(rows: Sequence[tuple[Any, ...]], parent: str, experiment: str) -> None:
    """Raises NotFoundError or HistoryError if a run of ``experiment`` cannot be a child of ``parent``.

    ``rows`` is what :data:`PARENT` gives for it.
    """
    if not rows:
        raise NotFoundError(f"no run {parent!r} in this workspace to be the parent of another")
    of_parent, archived = rows[0]
    if archived:
        raise HistoryError(
            f"run {parent} is archived: it takes no new children",
            hint=f"restore it first: hpcrun restore {parent}",
        )
    if of_parent != experiment:
        raise HistoryError(f"a child of {parent} is of its experiment, {of_parent!r}, not of {experiment!r}")
