"""Slurm's text on what it allows, read: partitions, nodes, associations, a start that was asked about.

Pure functions, no I/O. What cannot be read is taken for "nobody says".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpcrun.check.findings import Start
from hpcrun.check.limits import Limits
from hpcrun.schedulers.slurmtext import utc

PARTITIONS = ("scontrol", "--all", "--oneliner", "show", "partition")
# --exact keeps unlike nodes apart: without it there is one line a partition, with "4+" for its CPUs.
NODES = ("sinfo", "--all", "--noheader", "--exact", "--format=%R|%c|%m|%G")
ASSOCIATION_FORMAT = "account,partition,qos"
QOS_FORMAT = "name,flags,maxwall"

_START = re.compile(
    r"Job \d+ to start at (\S+) using \d+ processors on(?: nodes)? (\S+)(?: in partition (\S+))?"
)
_TIME = re.compile(r"(?:(\d{1,9})-)?(\d{1,9}):(\d\d):(\d\d)")
_GPU = re.compile(r"gpu(?::([^:,()]+))?:(\d{1,9})(?:\([^)]*\))?", re.IGNORECASE)


@dataclass(frozen=True)
class SlurmPartition:
    """A partition as Slurm has it. Of a list that allows, None is everybody."""

    limits: Limits
    default: bool = False
    state: str = "UP"
    default_time: int | None = None
    accounts: tuple[str, ...] | None = None
    denied_accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] | None = None
    denied_qos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Association:
    """What a user may charge to: an account, in one partition or (empty) in all, with these QOS."""

    account: str
    partition: str
    qos: tuple[str, ...]


@dataclass
class _Nodes:
    """The most that one node of a partition has."""

    cpus: int = 0
    memory: int = 0
    gpus: int = 0
    gpu_types: dict[str, int] = field(default_factory=dict)

    def add(self, cpus: str, memory: str, gres: str) -> None:
        self.cpus = max(self.cpus, _whole(cpus.rstrip("+")) or 0)
        self.memory = max(self.memory, _whole(memory.rstrip("+")) or 0)
        gpus = [(kind.lower(), int(count)) for kind, count in _GPU.findall(gres)]
        self.gpus = max(self.gpus, sum(count for _, count in gpus))
        for kind, count in gpus:
            if kind:
                self.gpu_types[kind] = max(count, self.gpu_types.get(kind, 0))


@dataclass(frozen=True)
class Qos:
    """A QOS: its own time limit for one job in seconds, and flags such as ``PartitionTimeLimit``, by which a
    limit of the partition's does not count."""

    name: str
    flags: frozenset[str]
    time: int | None


def parse_partitions(scontrol: str, sinfo: str) -> dict[str, SlurmPartition]:
    """The partitions by name, from the output of PARTITIONS, with what NODES tells of their nodes."""
    nodes: dict[str, _Nodes] = {}
    for line in sinfo.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 4:
            nodes.setdefault(parts[0], _Nodes()).add(*parts[1:])
    found = {}
    for line in scontrol.splitlines():
        values = {
            key: value for key, equals, value in (word.partition("=") for word in line.split()) if equals
        }
        name = values.get("PartitionName")
        if name:
            found[name] = _partition(name, values, nodes.get(name))
    return found


def _partition(name: str, values: Mapping[str, str], nodes: _Nodes | None) -> SlurmPartition:
    # Of a limit of the partition's, and what its largest node has, the smaller counts.
    most = nodes or _Nodes()
    limits = Limits(
        name,
        time=_seconds(values.get("MaxTime")),
        nodes=_least(_whole(values.get("MaxNodes")), _whole(values.get("TotalNodes"))),
        min_nodes=_whole(values.get("MinNodes")) or 1,
        cpus=_least(_whole(values.get("MaxCPUsPerNode")), most.cpus),
        memory=_least(_whole(values.get("MaxMemPerNode")), most.memory),
        gpus=None if nodes is None else nodes.gpus,
        gpu_types=most.gpu_types,
    )
    return SlurmPartition(
        limits,
        default=values.get("Default") == "YES",
        state=values.get("State", "UP"),
        default_time=_seconds(values.get("DefaultTime")),
        accounts=_names(values.get("AllowAccounts")),
        denied_accounts=_names(values.get("DenyAccounts")) or (),
        qos=_names(values.get("AllowQos")),
        denied_qos=_names(values.get("DenyQos")) or (),
    )


def _least(*numbers: int | None) -> int | None:
    return min((number for number in numbers if number), default=None)


def parse_associations(sacctmgr: str) -> list[Association]:
    """From ``sacctmgr -n -P show associations format=ASSOCIATION_FORMAT``."""
    found = []
    for line in sacctmgr.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 3 and parts[0]:
            qos = tuple(name.lstrip("+") for name in parts[2].split(",") if name)
            found.append(Association(parts[0], parts[1], qos))
    return found


def parse_qos(sacctmgr: str) -> list[Qos]:
    """From ``sacctmgr -n -P show qos format=QOS_FORMAT``."""
    parts = [line.strip().split("|") for line in sacctmgr.splitlines()]
    return [Qos(x[0], frozenset(x[1].split(",")), _seconds(x[2])) for x in parts if len(x) == 3 and x[0]]


def parse_start(stderr: str) -> Start | None:
    """The start in the answer of ``sbatch --test-only`` (run with TZ=UTC), whatever else it says."""
    said = _START.search(stderr)
    at = utc(said[1]) if said is not None else None
    if said is None or at is None:
        return None
    return Start(at, said[2], said[3] or "")


def _seconds(text: str | None) -> int | None:
    match = _TIME.fullmatch(text or "")
    if match is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,12}", text) else None


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None or text.upper() in ("ALL", "N/A", "(NULL)", "NONE"):
        return None
    return tuple(name for name in text.split(",") if name)
