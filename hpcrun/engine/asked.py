"""What a run asks for, and what its site has, as the rules that explain a wait want to know it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpcrun.errors import HpcrunError
from hpcrun.explain.facts import Ask, Partition
from hpcrun.history.record import RunRecord
from hpcrun.units import Memory

if TYPE_CHECKING:
    from hpcrun.targets import Targets


def ask_of(record: RunRecord, config: Mapping[str, Any]) -> Ask:
    """From the record and its configuration; what cannot be read there is left at its default."""
    resources, dist = (_section(config, key) for key in ("resources", "distributed_job_config"))
    request = _section(record.submission, "request")
    nodes = whole(dist.get("node_count")) or whole(resources.get("nodes")) or 1
    cpus = whole(request.get("cpus")) or 1
    kind, _, count = str(resources.get("gpus_per_node") or "0").rpartition(":")
    return Ask(
        partition=str(resources.get("partition") or record.target.partition(":")[2]),
        time=whole(request.get("time_limit")),
        nodes=nodes,
        cpus=cpus,
        cpus_per_node=math.ceil(cpus / nodes),
        memory=memory_of(config),
        gpus=int(count) if count.isascii() and count.isdigit() and len(count) < 9 else 0,
        gpu_type=kind or None,
    )


def partitions_of(targets: Targets, record: RunRecord) -> dict[str, Partition]:
    """The partitions of the run's site by name, as far as its description has them."""
    try:
        site = targets.get(record.target.partition(":")[0]).site
    except HpcrunError:
        return {}  # the site's file is gone, or damaged
    return {
        name: Partition(
            max_time=p.max_time,
            max_nodes=p.max_nodes,
            max_cpus_per_node=p.max_cpus_per_node,
            max_memory_per_node=p.max_memory_per_node,
            gpus_per_node=p.gpus_per_node,
            gpu_types=tuple(p.gpu_types),
        )
        for name, p in site.partitions.items()
    }


def memory_of(config: Mapping[str, Any]) -> int | None:
    """MiB a node."""
    try:
        return int(Memory.parse(_section(config, "resources").get("memory")))
    except ValueError:
        return None


def whole(value: object) -> int | None:
    """A number above 0; None for anything else."""
    return value if type(value) is int and value > 0 else None


def _section(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = mapping.get(name)
    return found if isinstance(found, Mapping) else {}
