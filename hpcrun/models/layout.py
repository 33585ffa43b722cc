"""How many processes, where: the one place where distributed_job_config and resources meet."""

from __future__ import annotations

from dataclasses import dataclass

from hpcrun.models.distributed import (
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from hpcrun.models.resources import Resources
from hpcrun.models.run import ScriptRunConfig


@dataclass(frozen=True)
class Layout:
    """``tasks_per_node`` processes on each of ``nodes`` nodes, ``cpus_per_task`` CPUs for each.

    ``kind`` is the ``type`` of the distributed_job_config, or ``single``. ``starter`` starts the processes
    of a node where Slurm does not: ``torchrun``. With ``least_nodes`` the run begins on fewer nodes, if
    that is what it is given. ``tasks``, where not all nodes have equally many processes, is their number;
    ``tasks_per_node`` then is the most.
    """

    kind: str
    nodes: int
    tasks_per_node: int
    cpus_per_task: int
    gpus_per_node: int
    starter: str = "srun"
    least_nodes: int | None = None
    tasks: int | None = None

    @property
    def processes(self) -> int:
        """Processes that run the payload, at most."""
        if self.kind == "single":
            return 1
        return self.tasks if self.tasks is not None else self.nodes * self.tasks_per_node

    @property
    def started_per_node(self) -> int:
        """Processes that are started on a node to begin with."""
        return 1 if self.starter == "torchrun" else self.tasks_per_node

    @property
    def cpus_of_started(self) -> int:
        """CPUs for each of these."""
        return self.cpus_per_task * (self.tasks_per_node // self.started_per_node)


class LayoutError(ValueError):
    """Numbers that contradict each other; ``path`` is the key to look at."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def layout(config: ScriptRunConfig) -> Layout:
    """Reconcile the counts of a configuration. Raises LayoutError where they contradict."""
    res, dist = config.resources, config.distributed_job_config
    if isinstance(dist, TensorflowConfiguration):
        nodes, per_node, tasks = _workers_and_servers(dist, res)
    else:
        nodes = _nodes(dist, res.nodes) if dist is not None else res.nodes or 1
        per_node, tasks = _tasks_per_node(config, nodes), None
    torch = dist if isinstance(dist, PyTorchConfiguration) else None
    return Layout(
        kind=dist.type if dist is not None else "single",
        nodes=nodes,
        tasks_per_node=per_node,
        cpus_per_task=res.cpus_per_task or 1,
        gpus_per_node=res.gpu_count,
        starter=torch.launcher if torch is not None else "srun",
        least_nodes=torch.min_nodes if torch is not None else None,
        tasks=tasks,
    )


def _workers_and_servers(dist: TensorflowConfiguration, res: Resources) -> tuple[int, int, int]:
    """Nodes, the most processes on one of them, and all processes: dealt out in turn, workers first."""
    workers, servers = dist.worker_count, dist.parameter_server_count
    nodes = res.nodes or workers
    if workers % nodes:
        raise LayoutError(
            "distributed_job_config.worker_count",
            f"{workers} workers do not go evenly onto {nodes} nodes (resources.nodes)",
        )
    tasks = workers + servers
    per_node = -(-tasks // nodes)
    if res.tasks_per_node is not None and res.tasks_per_node != per_node:
        raise LayoutError(
            "resources.tasks_per_node",
            f"tasks_per_node is {res.tasks_per_node}, and {workers} workers and {servers} parameter servers "
            f"on {nodes} nodes are {per_node}: leave it out",
        )
    return nodes, per_node, tasks


def _nodes(dist: MpiConfiguration | PyTorchConfiguration, asked: int | None) -> int:
    most = dist.max_nodes if isinstance(dist, PyTorchConfiguration) else None
    if most is not None:
        if asked not in (None, most):
            raise LayoutError(
                "distributed_job_config.max_nodes",
                f"max_nodes is {most} and resources.nodes is {asked}: make them agree, or leave one out",
            )
        return most
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
        what, wanted = "distributed_job_config.process_count", None
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
        each_gpu = config.command is None or dist.launcher == "torchrun"
        wanted = (res.gpu_count or 1) if each_gpu else 1
    return wanted or res.tasks_per_node or 1
