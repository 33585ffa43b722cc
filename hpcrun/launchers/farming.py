"""The job that many trials share: MPI processes that hand trials out and run them."""

from __future__ import annotations

import posixpath
from functools import cache
from pathlib import Path

from hpcrun.models.distributed import MpiConfiguration
from hpcrun.models.pack import Pack
from hpcrun.models.run import ScriptRunConfig
from hpcrun.units import Memory

PROGRAM = "farm.py"
"""In the job's folder, which the job's script writes it to."""


@cache
def farm_text() -> str:
    """The program of its processes."""
    return (Path(__file__).resolve().parent / PROGRAM).read_text(encoding="utf-8").rstrip("\n")


def farm_config(
    trial: ScriptRunConfig, pack: Pack, trials: int, limit: int | None, folder: str, title: str
) -> ScriptRunConfig:
    """What such a job is asked of the scheduler and runs; ``trial`` is that of each of its trials, with the
    site's defaults, and ``folder`` the job's own."""
    nodes, per_node = pack.shape(trials)
    asked = trial.resources
    gpus = asked.gpus_per_node
    resources = asked.model_copy(
        update={
            "nodes": None,
            "tasks_per_node": None,
            "memory": None if asked.memory is None else Memory(asked.memory * per_node),
            "gpus_per_node": gpus and gpus.model_copy(update={"count": gpus.count * per_node}),
        }
    )
    return trial.model_copy(
        update={
            "script": posixpath.join(folder, PROGRAM),
            "command": None,
            "arguments": [str(limit or 0), str(asked.gpu_count)],
            "distributed_job_config": MpiConfiguration(per_node, nodes),
            "resources": resources,
            "max_run_duration_seconds": None,
            "resume_from": None,
            "inputs": {},
            "display_name": title,
        }
    )
