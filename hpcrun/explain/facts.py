"""What the rules are given, and what they give back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcrun.states import RunState

LONGEST = 300
"""Characters of a line that are shown; logs may hold lines of megabytes."""


@dataclass(frozen=True)
class Explanation:
    """``cause`` is one word (docs/explain.md lists them), ``words`` a sentence or two. ``evidence`` are
    lines of logs and code, as they are; ``next`` is what would help, most useful first. ``used`` is what a
    run that has ended took of what it had asked for; empty where that is not known."""

    cause: str
    words: str
    evidence: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    used: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "cause": self.cause,
            "words": self.words,
            "evidence": list(self.evidence),
            "next": list(self.next),
            "used": self.used,
        }


@dataclass(frozen=True)
class Log:
    """The end of what one process printed. ``rank`` is None for a run of one process."""

    rank: int | None
    text: str


@dataclass(frozen=True)
class Ask:
    """What a run asks for. ``time`` in seconds, ``cpus`` of all nodes, ``memory`` in MiB a node, ``gpus`` a
    node."""

    partition: str = ""
    time: int | None = None
    nodes: int = 1
    cpus: int = 1
    memory: int | None = None
    gpus: int = 0
    gpu_type: str | None = None


@dataclass(frozen=True)
class Partition:
    """What a site's file says of one of its partitions; ``max_time`` in seconds. ``takes`` the run ``as it
    is``, ``shorter``, or (empty) not."""

    max_time: int | None = None
    max_nodes: int | None = None
    takes: str = ""


@dataclass(frozen=True)
class Other:
    """Another run that matters. ``wanted``: how it is to end; ``met``: whether it did, None as long as it has
    not ended. ``name`` is its name as a step of a pipeline."""

    run_id: str
    state: RunState
    reason: str = ""
    wanted: str = ""
    met: bool | None = None
    name: str = ""

    @property
    def short(self) -> str:
        return self.run_id.rpartition("_")[2]

    @property
    def how(self) -> str:
        return f"{self.state}" + (f" ({self.reason})" if self.reason else "")

    @property
    def words(self) -> str:
        return f"{self.name or self.run_id} is {self.how}"


def _no_source(path: str, line: int) -> str | None:
    return None


@dataclass(frozen=True)
class Facts:
    """All that the rules may know of a run.

    ``logs``: those of the processes that failed first come first. ``first``: the rank that failed first, and
    ``first_node`` where it was, if the job has said so. ``system``: the end of system_logs/job.txt.
    ``built``: what was last said while its environment was made, if that failed.
    ``time_limit`` and ``elapsed`` in seconds, ``memory`` asked for in MiB a node.
    ``config``: the run's configuration, as it was read from YAML. ``modules``: paths of Python files in
    the run's code; ``recipes``: names of files in it that say what an environment is made of. ``source``
    gives a line of the run's code, by path within it and number from 1. ``folder`` and ``code`` say whether
    what was put into the run's folder, and its code, are still there. ``usage``: what it took
    (:class:`hpcrun.schedulers.base.JobFacts`). ``start``: when the scheduler expects
    it to start, in the user's time zone, which is in ``starts_in`` seconds. ``before``: the runs that it
    comes after; ``steps``: of a pipeline, its runs. ``ask`` and ``partitions`` (of the run's site, by name)
    matter while it waits. ``pack``: the folder of the job that it shares with other trials.
    """

    run_id: str
    state: RunState
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    job_id: str | None = None
    slurm: bool = True
    nodes: str | None = None
    processes: int = 1
    elapsed: float | None = None
    time_limit: int | None = None
    memory: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    logs: tuple[Log, ...] = ()
    first: int | None = None
    first_node: str = ""
    system: str = ""
    built: str = ""
    hint: str = ""
    modules: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    source: Callable[[str, int], str | None] = _no_source
    folder: bool = True
    code: bool = True
    usage: Mapping[str, Any] | None = None
    start: str = ""
    starts_in: float | None = None
    before: tuple[Other, ...] = ()
    steps: tuple[Other, ...] = ()
    ask: Ask = Ask()
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    pack: str = ""

    @property
    def short(self) -> str:
        """How the run is named on the command line."""
        return self.run_id.rpartition("_")[2]

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the configuration; empty where there is none."""
        found = self.config.get(name)
        return found if isinstance(found, Mapping) else {}

    @property
    def first_log(self) -> Log:
        """What the process that failed first printed, which may be nothing."""
        if self.first is not None:
            return next((log for log in self.logs if log.rank == self.first), Log(self.first, ""))
        return next((log for log in self.logs if log.text.strip()), Log(None, ""))

    @property
    def telling_logs(self) -> tuple[Log, ...]:
        """The logs that may say why: what others say of the failure of the first is not why it failed."""
        return self.logs if self.first is None else (self.first_log,)

    def whose(self, log: Log) -> str:
        """``rank 3 on node2`` where there are several; without the node where that is not known."""
        if log.rank is None or self.processes < 2:
            return ""
        node = f" on {self.first_node}" if log.rank == self.first and self.first_node else ""
        return f"rank {log.rank}{node}"


Rule = Callable[[Facts], Explanation | None]


def cut(line: str) -> str:
    """A line, no longer than is shown."""
    line = line.rstrip()
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


def tail(text: str, count: int = 10) -> list[str]:
    """The last lines that hold anything."""
    lines = [line for line in text.splitlines() if line.strip()]
    return [cut(line) for line in lines[-count:]]


def last_line(text: str, pattern: re.Pattern[str]) -> str | None:
    """The last line in which the pattern is found, as it is shown."""
    for line in reversed(text.splitlines()):
        if pattern.search(line):
            return cut(line.strip())
    return None
