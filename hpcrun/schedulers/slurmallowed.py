"""What is allowed instead of what Slurm has just refused: which command tells, and what it says. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable

from hpcrun.schedulers.slurmlimits import (
    ASSOCIATION_FORMAT,
    PARTITIONS,
    parse_associations,
    parse_partitions,
)
from hpcrun.units import Duration

SHOWN = 30
"""Names that are listed; large sites have hundreds of partitions."""

_ASSOCIATIONS = re.compile(
    r"Invalid account|Invalid qos|account/QOS|user\'s (?:account|bank)|association", re.IGNORECASE
)
_PARTITIONS = re.compile(r"partition|time limit is invalid|node count", re.IGNORECASE)
_NODES = re.compile(r"node configuration is not available|More processors requested", re.IGNORECASE)
_ARRAY = re.compile(r"Invalid job array", re.IGNORECASE)

Reader = Callable[[str], str]


def question(refusal: str, user: str) -> tuple[list[str], Reader] | None:
    """The command that knows what is allowed, and how its answer is put into words; None where none does.

    Of a partition that only some accounts may use Slurm speaks as of an account; accounts come first.
    """
    if _ARRAY.search(refusal):
        return ["scontrol", "show", "config"], _array
    if _NODES.search(refusal):
        return ["sinfo", "--noheader", "--format=%R|%D|%c|%m|%G"], _nodes
    if re.search(r"not permitted to use this partition", refusal) or (
        _PARTITIONS.search(refusal) and not _ASSOCIATIONS.search(refusal)
    ):
        return [*PARTITIONS], _partitions
    if _ASSOCIATIONS.search(refusal):
        what = ["show", "associations", f"user={user}", f"format={ASSOCIATION_FORMAT}"]
        return ["sacctmgr", "--noheader", "--parsable2", *what], _associations
    return None


def _associations(said: str) -> str:
    """``account lab (QOS: high, normal); account other on partition gpu (QOS: normal)``"""
    found = []
    for usable in parse_associations(said):
        where = f" on partition {usable.partition}" if usable.partition else ""
        names = f" (QOS: {', '.join(usable.qos)})" if usable.qos else ""
        found.append(f"account {usable.account}{where}{names}")
    return _listed("You may use", found)


def _partitions(said: str) -> str:
    """``main (time 1-00:00:00, 3 nodes); short (time 00:10:00, 3 nodes, accounts lab)``"""
    found = []
    for name, there in parse_partitions(said, "").items():
        limits = [
            f"time {Duration(there.limits.time).slurm}" if there.limits.time else "",
            f"{there.limits.nodes} nodes" if there.limits.nodes else "",
            f"accounts {', '.join(there.accounts)}" if there.accounts else "",
            f"QOS {', '.join(there.qos)}" if there.qos else "",
            there.state if there.state != "UP" else "",
        ]
        text = ", ".join(filter(None, limits))
        found.append(f"{name} ({text})" if text else name)
    return _listed("The partitions there are", found)


def _nodes(said: str) -> str:
    """``main (3 nodes of 4 CPUs, 4000M, gpu:fake:2)``"""
    found = []
    for line in said.splitlines():
        name, *values = line.strip().split("|")
        if name and len(values) == 4:
            count, cpus, memory, gres = values
            more = "" if gres in ("", "(null)") else f", {gres}"
            found.append(f"{name} ({count} nodes of {cpus} CPUs, {memory}M{more})")
    return _listed("There are", found)


def _array(said: str) -> str:
    match = re.search(r"^MaxArraySize\s*=\s*(\d{1,9})\s*$", said, re.MULTILINE)
    return f"The highest index that an array may have here is {int(match.group(1)) - 1}." if match else ""


def _listed(head: str, found: list[str]) -> str:
    shown = list(dict.fromkeys(found))[:SHOWN]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{head}: {'; '.join(shown)}{more}." if shown else ""
