"""What a run asks for, beside what partitions allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hpcrun.check.findings import Code
from hpcrun.config.tree import Path
from hpcrun.models.layout import layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Partition, Site
from hpcrun.render import time_limit
from hpcrun.units import Duration, Memory


@dataclass(frozen=True)
class Limits:
    """What one run may ask of a partition; None, or no GPU types, where nobody says.

    ``time`` in seconds; ``cpus``, ``memory`` (MiB) and ``gpus`` of one node; ``gpu_types``: how many of each
    type (in lower case) a node has.
    """

    partition: str
    time: int | None = None
    nodes: int | None = None
    min_nodes: int = 1
    cpus: int | None = None
    memory: int | None = None
    gpus: int | None = None
    gpu_types: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What a run asks for, in the units of :class:`Limits`, and the keys that say so."""

    nodes: int
    cpus: int
    gpus: int
    gpu_type: str | None
    memory: int | None
    time: int | None
    keys: Mapping[Code, Path]


@dataclass(frozen=True)
class Excess:
    """One thing that is more than a partition allows; ``less`` says what to ask for instead."""

    code: Code
    message: str
    less: str = ""


def asked_of(config: ScriptRunConfig, site: Site) -> Asked:
    """What a configuration, completed by its site, asks for. Raises LayoutError."""
    plan, res = layout(config), config.resources
    keys: dict[Code, Path] = {"GPUs": ("resources", "gpus_per_node"), "CPUs": ("resources", "cpus_per_task")}
    if res.cpus_per_task is None and config.distributed_job_config is not None:
        keys["CPUs"] = ("distributed_job_config",)
    elif res.cpus_per_task is None:
        keys["CPUs"] = ("resources", "tasks_per_node")
    by_launcher = config.distributed_job_config is not None and res.nodes is None
    keys["Nodes"] = ("distributed_job_config", "node_count") if by_launcher else ("resources", "nodes")
    limit = time_limit(config)
    keys["Time"] = ("resources", "time") if limit == res.time else ("max_run_duration_seconds",)
    cpus, memory, name = plan.tasks_per_node * plan.cpus_per_task, None, "memory"
    for key, times in (("memory", 1), ("memory_per_cpu", cpus), ("memory_per_gpu", plan.gpus_per_node)):
        amount = getattr(res, key)
        if amount is not None and site.scheduler.memory_directive != "none":
            memory, name = int(amount) * times, key
    keys["Memory"] = ("resources", name)
    kind = res.gpus_per_node.type if res.gpus_per_node else None
    return Asked(
        plan.nodes, cpus, plan.gpus_per_node, kind, memory, None if limit is None else int(limit), keys
    )


def described(site: Site) -> dict[str, Limits]:
    """The limits that a site's file tells of, by partition."""
    return {name: _described(name, partition) for name, partition in site.partitions.items()}


def _described(name: str, partition: Partition) -> Limits:
    count = partition.gpus_per_node
    return Limits(
        name,
        time=None if partition.max_time is None else int(partition.max_time),
        nodes=partition.max_nodes,
        cpus=partition.max_cpus_per_node,
        memory=None if partition.max_memory_per_node is None else int(partition.max_memory_per_node),
        gpus=count,
        gpu_types={kind.lower(): 1_000_000 if count is None else count for kind in partition.gpu_types},
    )


def excesses(asked: Asked, limits: Limits) -> list[Excess]:
    """All that a run asks for and the partition does not allow."""
    where = f"partition {limits.partition}"
    found = []
    if asked.time is not None and limits.time is not None and asked.time > limits.time:
        wanted, most = Duration(asked.time).slurm, Duration(limits.time).slurm
        found.append(Excess("Time", f"{wanted} is more than {where} allows: {most}", f"--time {most}"))
    if limits.nodes is not None and asked.nodes > limits.nodes:
        message = f"{asked.nodes} nodes are more than {where} gives one run: {limits.nodes}"
        found.append(Excess("Nodes", message, f"--nodes {limits.nodes}"))
    if asked.nodes < limits.min_nodes:
        message = (
            f"{_count(asked.nodes, 'node')} for a run in {where}, which wants {limits.min_nodes} at least"
        )
        found.append(Excess("Nodes", message, f"--nodes {limits.min_nodes}"))
    if limits.cpus is not None and asked.cpus > limits.cpus:
        found.append(Excess("CPUs", f"{asked.cpus} CPUs on a node are more than {where} has: {limits.cpus}"))
    if asked.memory is not None and limits.memory is not None and asked.memory > limits.memory:
        wanted, most = Memory(asked.memory).slurm, Memory(limits.memory).slurm
        message = f"{wanted} on a node are more than {where} has: {most}"
        found.append(Excess("Memory", message, f"--mem {most}"))
    return [*found, *_gpus(asked, limits)]


def _gpus(asked: Asked, limits: Limits) -> list[Excess]:
    where, kind = f"partition {limits.partition}", (asked.gpu_type or "").lower()
    if not asked.gpus:
        return []
    if kind and limits.gpu_types and kind not in limits.gpu_types:
        known = ", ".join(limits.gpu_types)
        first, number = next(iter(limits.gpu_types.items()))
        less = f"--gpus-per-node {first}:{min(asked.gpus, number)}"
        return [Excess("GPUs", f"{where} has no GPUs of type {asked.gpu_type}: it has {known}", less)]
    have = limits.gpu_types.get(kind, limits.gpus) if kind else limits.gpus
    if have is None or asked.gpus <= have:
        return []
    if not have:
        return [Excess("GPUs", f"{_count(asked.gpus, 'GPU')} on each node, and {where} has none")]
    verb = "is" if asked.gpus == 1 else "are"
    message = f"{_count(asked.gpus, 'GPU')} on each node {verb} more than {where} has: {have}"
    return [Excess("GPUs", message, f"--gpus-per-node {f'{asked.gpu_type}:' if kind else ''}{have}")]


_SAID: dict[Code, Callable[[Limits], object]] = {
    "Time": lambda limits: limits.time,
    "Nodes": lambda limits: limits.nodes,
    "CPUs": lambda limits: limits.cpus,
    "Memory": lambda limits: limits.memory,
    "GPUs": lambda limits: limits.gpus,
}


def fitting(asked: Asked, partitions: Mapping[str, Limits], code: Code) -> list[str]:
    """The partitions that would take the run as it is, and are known to as far as ``code`` goes."""
    return [
        name
        for name, limits in partitions.items()
        if not excesses(asked, limits) and _SAID[code](limits) is not None
    ]


def advice(excess: Excess, asked: Asked, partitions: Mapping[str, Limits]) -> str:
    """What to do about an excess: ask for less, or go to another partition."""
    fits = fitting(asked, partitions, excess.code)
    if fits:
        other = f"a partition that takes it: {', '.join(fits)}"
        return f"{excess.less}, or {other}" if excess.less else f"Less, or {other}"
    return f"{excess.less or 'Ask for less'}; no other partition is known to take all that is asked"


def chosen(config: ScriptRunConfig) -> list[str]:
    """The partitions that a configuration names; Slurm takes the first that is free."""
    named = config.resources.partition
    return named.split(",") if named else []


def over_description(config: ScriptRunConfig, site: Site) -> list[tuple[str, Excess, str]]:
    """What a completed configuration asks for beyond the site's file: partition, excess, what to do.

    Of several partitions one that takes the run is enough.
    """
    known = described(site)
    names = [name for name in chosen(config) if name in known]
    if not names:
        return []
    asked = asked_of(config, site)
    over = {name: excesses(asked, known[name]) for name in names}
    if not all(over.values()):
        return []
    return [(name, excess, advice(excess, asked, known)) for name, found in over.items() for excess in found]


def without_gpus(asked: Asked, name: str, partitions: Mapping[str, Limits]) -> list[str]:
    """Where GPUs are asked for and nothing is said of any in ``name``: the partitions known to have them."""
    if not asked.gpus or name not in partitions or partitions[name].gpus is not None:
        return []
    return [other for other, limits in partitions.items() if limits.gpus]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
