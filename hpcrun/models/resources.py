"""What a run asks of the scheduler, in Slurm's terms and people's units."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hpcrun.models.base import Count, DurationField, Line, MemoryField, Model, Name, only_one

# Options that hpcrun writes itself; setting them again would break its promises.
RESERVED_SBATCH = {
    "job-name": "the job's name is the run id: that is how a lost submission is found again",
    "chdir": "the run's folder",
    "output": "hpcrun keeps every process's log under user_logs/",
    "error": "hpcrun keeps every process's log under user_logs/",
    "array": "sweeps make arrays",
    "wrap": "the script is hpcrun's",
    "parsable": "hpcrun reads sbatch's answer",
    "export": "use environment_variables",
    "open-mode": "logs are always appended",
    "wait": "use hpcrun submit --wait",
    "test-only": "use hpcrun submit --dry-run",
    "nodes": "use resources.nodes",
    "ntasks": "use resources.tasks_per_node or distributed_job_config",
    "ntasks-per-node": "use resources.tasks_per_node or distributed_job_config",
    "cpus-per-task": "use resources.cpus_per_task",
    "time": "use resources.time",
    "partition": "use resources.partition",
    "account": "use resources.account",
    "qos": "use resources.qos",
    "constraint": "use resources.constraint",
    "reservation": "use resources.reservation",
    "exclusive": "use resources.exclusive",
    "mem": "use resources.memory",
    "mem-per-cpu": "use resources.memory_per_cpu",
    "mem-per-gpu": "use resources.memory_per_gpu",
    "gres": "use resources.gpus_per_node, or write --gres through the site's scheduler.sbatch",
    "gpus-per-node": "use resources.gpus_per_node",
    "gpus-per-task": "it hides the GPUs of a node from each other's processes: use resources.gpus_per_node",
}


def _option_name(name: str) -> str:
    plain = name.removeprefix("--").replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", plain):
        raise ValueError("is not the long name of an sbatch option, such as mail-type")
    return plain


def _user_option(name: str) -> str:
    plain = _option_name(name)
    if plain in RESERVED_SBATCH:
        raise ValueError(f"cannot be set here: {RESERVED_SBATCH[plain]}")
    return plain


OptionValue = bool | int | Line | None
SbatchOptions = dict[Annotated[str, AfterValidator(_user_option)], OptionValue]
"""Long option names without dashes; true makes a bare flag, false or null leaves it out."""
SiteSbatchOptions = dict[Annotated[str, AfterValidator(_option_name)], OptionValue]


def _gpus(value: Any) -> Any:
    """``2``, ``"2"``, ``"a100:2"`` or ``{type: a100, count: 2}``."""
    if isinstance(value, str):
        kind, _, count = value.rpartition(":")
        if not count.strip().isdigit():
            raise ValueError("expected a number of GPUs, or TYPE:NUMBER such as a100:2")
        return {"type": kind or None, "count": int(count)}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"type": None, "count": value}
    return value


class Gpus(Model):
    """GPUs on each node, of one type where the type matters."""

    count: Annotated[int, Field(ge=0, le=1024)]
    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None

    def __str__(self) -> str:
        return f"{self.type}:{self.count}" if self.type else str(self.count)


GpusField = Annotated[Gpus, BeforeValidator(_gpus)]


class Resources(Model):
    """Everything left out is the site's choice.

    ``memory`` is per node; it, ``memory_per_cpu`` and ``memory_per_gpu`` exclude each other, as they
    do for sbatch. ``sbatch`` holds further long options, without their dashes.
    """

    nodes: Count | None = None
    tasks_per_node: Count | None = None
    cpus_per_task: Count | None = None
    gpus_per_node: GpusField | None = None
    memory: MemoryField | None = None
    memory_per_cpu: MemoryField | None = None
    memory_per_gpu: MemoryField | None = None
    time: DurationField | None = None
    partition: Name | None = None
    account: Name | None = None
    qos: Name | None = None
    constraint: Name | None = None
    reservation: Name | None = None
    exclusive: bool | None = None
    sbatch: SbatchOptions = {}

    # Values are taken as people write them ("90m", "120G"); type checkers should not ask for ours.
    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @model_validator(mode="after")
    def _one_memory(self) -> Resources:
        given = [n for n in ("memory", "memory_per_cpu", "memory_per_gpu") if getattr(self, n) is not None]
        only_one(given)
        return self

    @property
    def gpu_count(self) -> int:
        """GPUs on each node."""
        return self.gpus_per_node.count if self.gpus_per_node else 0
