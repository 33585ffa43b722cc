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
    """

    type: Literal["pytorch"] = "pytorch"
    communication_backend: Annotated[
        Literal["nccl", "gloo"], BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)
    ] = "nccl"
    process_count: Count | None = None
    node_count: Count = 1

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


DistributedConfig = Annotated[MpiConfiguration | PyTorchConfiguration, Field(discriminator="type")]
