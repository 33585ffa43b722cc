"""What would start a waiting run sooner, by why it waits, by what it asks for and by what its site allows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcrun.explain.facts import Facts, Partition
from hpcrun.units import Duration, Memory, human_seconds

_QUEUE = re.compile(r"Priority|Resources|None|Requeued")
_TIME = re.compile(r"\w*(?:Wall|Minutes|RunMins|TimeLimit)\w*|ReqNodes?NotAvail")
_GPUS = re.compile(r"\w*GRES\w*", re.IGNORECASE)
_NODES = re.compile(r"\w*Node(?:Per\w*)?(?:Limit)?")
_CPUS = re.compile(r"\w*CPU\w*", re.IGNORECASE)
_MEMORY = re.compile(r"\w*Mem\w*")
_ELSEWHERE = re.compile(r"Partition\w*|MaxMemPerLimit|BadConstraints|Constraints|AccountNotAllowed|NodeDown")


def sooner(facts: Facts) -> list[str]:
    """Most useful first; empty where nothing that could be asked otherwise would help."""
    word = re.split(r"[,\s]", facts.reason.strip(), maxsplit=1)[0]
    ask, here = facts.ask, facts.partitions.get(facts.ask.partition)
    queue = _QUEUE.fullmatch(word) is not None
    found: list[str] = []
    if word == "PartitionTimeLimit" and here is not None and here.max_time and ask.time:
        found.append(f"{ask.partition} allows {_slurm(here.max_time)}: ask for no more by --time.")
    elif (queue or _TIME.fullmatch(word)) and ask.time:
        found.append(
            f"Ask for less time than {human_seconds(ask.time)} (--time), if it needs less: a short job is let"
            " into a gap that a long one does not fit into."
        )
    if word == "PartitionNodeLimit" and here is not None and here.max_nodes:
        found.append(f"{ask.partition} allows {here.max_nodes} nodes: ask for no more by --nodes.")
    elif (queue or _NODES.fullmatch(word)) and ask.nodes > 1:
        found.append(f"Ask for fewer nodes than {ask.nodes} (--nodes): they must all be free at once.")
    gpus = queue or _GPUS.fullmatch(word) is not None
    if gpus and ask.gpus > 1:
        found.append(f"Ask for fewer GPUs than {ask.gpus} a node (--gpus-per-node).")
    if gpus and ask.gpus and ask.gpu_type:
        found.append(
            f"Ask for GPUs of any type (--gpus-per-node {ask.gpus}), if it need not be {ask.gpu_type}."
        )
    if _CPUS.fullmatch(word) and ask.cpus > 1:
        found.append(f"Ask for fewer CPUs than {ask.cpus} (--cpus-per-task).")
    if _MEMORY.fullmatch(word) and ask.memory:
        found.append(f"Ask for less memory than {Memory(ask.memory).slurm} a node (--mem).")
    if queue or _ELSEWHERE.fullmatch(word):
        found += _elsewhere(facts)
    return found


def _elsewhere(facts: Facts) -> Iterator[str]:
    """Other partitions that the site's file has, and that could take the run."""
    named = facts.ask.partition.split(",")  # Slurm takes the first that is free
    others = {name: there for name, there in facts.partitions.items() if name not in named}
    fit = [_with_limit(name, there) for name, there in others.items() if there.takes == "as it is"]
    if fit:
        yield f"Other partitions that would take it as it is: {', '.join(fit)}; submit with -p NAME."
    almost = [
        f"{name} with --time {_slurm(there.max_time)} or less"
        for name, there in others.items()
        if there.takes == "shorter"
    ]
    if almost:
        yield f"Others that would take a shorter run: {', '.join(almost)}."


def _with_limit(name: str, there: Partition) -> str:
    return f"{name} (at most {human_seconds(there.max_time)})" if there.max_time else name


def _slurm(seconds: int | None) -> str:
    return Duration(seconds or 0).slurm
