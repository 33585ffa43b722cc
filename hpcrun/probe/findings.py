"""What looking at a site found: each thing with how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hpcrun.config.tree import Path, path_text

Level = Literal["problem", "warning", "note", "ok"]
"""``problem``: runs will fail. ``warning``: they may. ``note``: worth knowing. ``ok``: tried, and well."""

Code = Literal[
    "Slurm", "Login", "Clock", "Partition", "Time", "Nodes", "CPUs", "Memory", "GPUs", "Account", "QOS",
    "MPI", "Array", "Accounting", "Conda", "Container", "Programs", "Root", "Disk", "Job", "Ranks",
    "Network", "Bandwidth",
]  # fmt: skip
"""One stable word for what a finding is about (docs/sites.md lists them)."""

_ORDER: tuple[Level, ...] = ("problem", "warning", "note", "ok")


@dataclass(frozen=True)
class Finding:
    """``path`` is the key of the site's file that it is about, ``where`` the place of that key, as
    ``file:line:column``; ``next`` is what would help."""

    level: Level
    code: Code
    message: str
    path: Path = ()
    next: str = ""
    where: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "path": path_text(self.path)}


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in order of how bad they are."""
    return tuple(sorted(findings, key=lambda each: _ORDER.index(each.level)))
