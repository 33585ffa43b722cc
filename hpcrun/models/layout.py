"""How many processes, where: the one place where distributed_job_config and resources meet."""

from __future__ import annotations

from dataclasses import dataclass

from hpcrun.models.distributed import DistributedConfig, MpiConfiguration, PyTorchConfiguration
from hpcrun.models.run import ScriptRunConfig


@dataclass(frozen=True)
class Layout:
    """``tasks_per_node`` processes on each of ``nodes`` nodes, ``cpus_per_task`` CPUs for each.

    ``kind`` is the ``type`` of the distributed_job_config, or ``single``.
    """

    kind: str
    nodes: int
    tasks_per_node: int
    cpus_per_task: int
    gpus_per_node: int

    @property
    def processes(self) -> int:
        """Processes that hpcrun starts."""
        return 1 if self.kind == "single" else self.nodes * self.tasks_per_node


class LayoutError(ValueError):
    """Numbers that contradict each other; ``path`` is the key to look at."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def layout(config: ScriptRunConfig) -> Layout:
    """Reconcile the counts of a configuration. Raises LayoutError where they contradict."""
    res, dist = config.resources, config.distributed_job_config
    nodes = res.nodes or 1
    if dist is not None:
        nodes = _nodes(dist, res.nodes)
    per_node = _tasks_per_node(config, nodes)
    return Layout(
        kind=dist.type if dist is not None else "single",
        nodes=nodes,
        tasks_per_node=per_node,
        cpus_per_task=res.cpus_per_task or 1,
        gpus_per_node=res.gpu_count,
    )


def _nodes(dist: DistributedConfig, asked: int | None) -> int:
    if asked is None or dist.node_count == asked:
        return dist.node_count
    if "node_count" in dist.model_fields_set:
        raise LayoutError(
            "distributed_job_config.node_count",
            f"node_count is {dist.node_count} and resources.nodes is {asked}: "
            "make them agree, or leave one out",
        )
    return asked


def _tasks_per_node(config: ScriptRunConfig, nodes: int) -> int:
    res, dist = config.resources, config.distributed_job_config
    if isinstance(dist, MpiConfiguration):
        wanted = dist.process_count_per_node if "process_count_per_node" in dist.model_fields_set else None
        what = "distributed_job_config.process_count_per_node"
    elif isinstance(dist, PyTorchConfiguration):
        what = "distributed_job_config.process_count"
        wanted = None
        if dist.process_count is not None:
            if dist.process_count % nodes:
                raise LayoutError(what, f"{dist.process_count} processes do not go evenly onto {nodes} nodes")
            wanted = dist.process_count // nodes
    else:
        return res.tasks_per_node or 1
    if wanted is not None and res.tasks_per_node is not None and wanted != res.tasks_per_node:
        raise LayoutError(
            what,
            f"{wanted} processes a node here and resources.tasks_per_node is {res.tasks_per_node}: "
            "make them agree, or leave one out",
        )
    if wanted is None and res.tasks_per_node is None and isinstance(dist, PyTorchConfiguration):
        wanted = (res.gpu_count or 1) if config.command is None else 1
    return wanted or res.tasks_per_node or 1
