"""What a check found: each thing with how bad it is, where it stands, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hpcrun.config.checks import config_tree
from hpcrun.config.tree import Path, path_text
from hpcrun.config.validate import place_of
from hpcrun.errors import ConfigError, Problem
from hpcrun.models.run import ScriptRunConfig

Level = Literal["problem", "warning", "note"]
"""``problem``: submitting fails, or the run cannot work. ``warning``: it may. ``note``: worth knowing."""

Code = Literal[
    "Config", "Target", "Partition", "Account", "QOS", "Time", "Memory", "Nodes", "CPUs", "GPUs", "Source",
    "Script", "Syntax", "Environment", "Program", "Snapshot", "Template", "Resume", "Experiment", "Slurm",
    "Start", "Description", "Unchecked",
]  # fmt: skip
"""One stable word for what a finding is about (docs/cli.md lists them)."""

ORDER: tuple[Level, ...] = ("problem", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """``where`` is ``file:line:column`` of the key ``path``, or the layer that it came from. ``details`` are
    lines as they are (the biggest files, a line of the script); ``next`` is what would help. ``step`` is that
    of a pipeline.
    """

    level: Level
    code: Code
    message: str
    where: str = ""
    path: str = ""
    details: tuple[str, ...] = ()
    next: str = ""
    step: str = ""


@dataclass(frozen=True)
class Start:
    """When Slurm would start the run: ``at`` is ISO-8601 in UTC, ``nodes`` in Slurm's spelling."""

    at: str
    nodes: str
    partition: str


@dataclass(frozen=True)
class Report:
    """All that was found, the worst first. ``ok``: nothing that would make a submission fail."""

    target: str
    findings: tuple[Finding, ...]
    start: Start | None = None

    @property
    def ok(self) -> bool:
        return not self.of("problem")

    @property
    def exit_code(self) -> int:
        """What ``hpcrun check`` ends with."""
        return 0 if self.ok else ConfigError.exit_code

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        start = None if self.start is None else asdict(self.start)
        findings = [{**asdict(finding), "details": list(finding.details)} for finding in self.findings]
        return {"target": self.target, "ok": self.ok, "findings": findings, "start": start}


@dataclass
class Findings:
    """The findings so far on ``config``, which says where each of its keys was written."""

    config: ScriptRunConfig
    found: list[Finding] = field(default_factory=list)
    start: Start | None = None

    def add(
        self,
        level: Level,
        code: Code,
        message: str,
        path: Path = (),
        *,
        details: tuple[str, ...] = (),
        next: str = "",
    ) -> None:
        """Note one more, at the place where ``path`` was written."""
        where = str(place_of(config_tree(self.config), path)) if path else ""
        self.found.append(Finding(level, code, message, where, path_text(path), tuple(details), next))

    def add_problems(self, problems: list[Problem], code: Code) -> None:
        """Note what is wrong with a configuration; what was noted before is not noted again."""
        for problem in problems:
            self.found += finding_of(problem, code, self.found)

    def has(self, *codes: Code) -> bool:
        """Whether there is a problem of one of these kinds."""
        return any(each.level == "problem" and each.code in codes for each in self.found)

    def report(self) -> Report:
        ordered = sorted(self.found, key=lambda each: ORDER.index(each.level))
        return Report(self.config.compute_target, tuple(ordered), self.start)


def finding_of(problem: Problem, code: Code, known: list[Finding]) -> list[Finding]:
    """The finding that a problem of a configuration is, unless it is among those known."""
    if any((each.message, each.path) == (problem.message, problem.path) for each in known):
        return []
    return [Finding("problem", code, problem.message, problem.where, problem.path, next=problem.hint)]


def unreadable(error: ConfigError) -> Report:
    """The report on a configuration that cannot be read at all."""
    found: list[Finding] = []
    for problem in error.problems:
        found += finding_of(problem, "Config", found)
    return Report("", tuple(found))
