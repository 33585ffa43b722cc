"""How many processes on how many nodes, and which variables each rank gets.

The names and defaults are Azure ML's. Unlike there, counts are checked: 7 processes do not go onto
2 nodes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hpcrun.models.base import Count, Model


def _given(**values: object) -> dict[str, object]:
    """What was said: a count left out may be filled from the resources, one said may not.

    The ``type`` is always said (by both classes): without it the model could not be read back.
    """
    return {name: value for name, value in values.items() if value is not None}


class MpiConfiguration(Model):
    """``process_count_per_node`` MPI processes on each of ``node_count`` nodes.

    ``check``: before them, two processes try whether the site's PMI and the environment's MPI go together,
    where the script uses mpi4py.
    """

    type: Literal["mpi"] = "mpi"
    process_count_per_node: Count = 1
    node_count: Count = 1
    check: bool = True

    def __init__(
        self, process_count_per_node: int | None = None, node_count: int | None = None, **more: object
    ) -> None:
        given = _given(process_count_per_node=process_count_per_node, node_count=node_count)
        super().__init__(**{"type": "mpi", **given, **more})


class PyTorchConfiguration(Model):
    """``process_count`` processes in all, evenly over ``node_count`` nodes.

    Left out, there is one process a GPU asked for (or one a node, where none is) when a ``script``
    runs, and one a node when a ``command`` does, which then starts its own, as torchrun would.

    ``launcher: torchrun`` has hpcrun start torchrun, once a node, and torchrun the processes; it may start
    them all again, ``max_restarts`` times, when one has failed. Only there the number of nodes may be open,
    ``min_nodes`` to ``max_nodes``: the run begins with as many as the scheduler gives it.
    """

    type: Literal["pytorch"] = "pytorch"
    communication_backend: Annotated[
        Literal["nccl", "gloo"], BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)
    ] = "nccl"
    process_count: Count | None = None
    node_count: Count = 1
    launcher: Literal["srun", "torchrun"] = "srun"
    min_nodes: Count | None = None
    max_nodes: Count | None = None
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 0

    def __init__(
        self,
        communication_backend: str | None = None,
        process_count: int | None = None,
        node_count: int | None = None,
        **more: object,
    ) -> None:
        given = _given(
            communication_backend=communication_backend, process_count=process_count, node_count=node_count
        )
        super().__init__(**{"type": "pytorch", **given, **more})

    @model_validator(mode="after")
    def _even(self) -> PyTorchConfiguration:
        if self.process_count is not None and self.process_count % self.node_count:
            raise ValueError(
                f"{self.process_count} processes do not go evenly onto {self.node_count} nodes: "
                f"process_count is the total over all nodes"
            )
        return self

    @model_validator(mode="after")
    def _elastic(self) -> PyTorchConfiguration:
        for name in ("min_nodes", "max_nodes", "max_restarts"):
            if getattr(self, name) and self.launcher != "torchrun":
                raise ValueError(f"{name} goes with launcher: torchrun, which alone can act on it")
        if self.min_nodes is None and self.max_nodes is None:
            return self
        if self.min_nodes is None or self.max_nodes is None:
            given = "max_nodes" if self.min_nodes is None else "min_nodes"
            raise ValueError(f"{given} stands alone: give both min_nodes and max_nodes, or node_count")
        if self.min_nodes > self.max_nodes:
            raise ValueError(f"min_nodes, {self.min_nodes}, is more than max_nodes, {self.max_nodes}")
        if "node_count" in self.model_fields_set:
            raise ValueError("node_count and min_nodes exclude each other: keep one")
        if self.process_count is not None:
            raise ValueError(
                "process_count is the total over all nodes, and how many there will be is open: "
                "say resources.tasks_per_node instead"
            )
        return self


class TensorflowConfiguration(Model):
    """``worker_count`` workers, one a node, and ``parameter_server_count`` parameter servers beside them.

    With ``resources.nodes`` the workers are shared out over fewer nodes. Every process finds who all are,
    and which of them it is, in ``TF_CONFIG``. Worker 0 is the chief.
    """

    type: Literal["tensorflow"] = "tensorflow"
    worker_count: Count = 1
    parameter_server_count: Annotated[int, Field(ge=0, le=1_000_000)] = 1

    def __init__(
        self, worker_count: int | None = None, parameter_server_count: int | None = None, **more: object
    ) -> None:
        given = _given(worker_count=worker_count, parameter_server_count=parameter_server_count)
        super().__init__(**{"type": "tensorflow", **given, **more})


DistributedConfig = Annotated[
    MpiConfiguration | PyTorchConfiguration | TensorflowConfiguration, Field(discriminator="type")
]
