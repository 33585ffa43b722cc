"""How many processes an MPI sees, said by each of them: what asks, and what reads it.

The doctor's job asks the same of the system's Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hpcrun.launchers.base import srun_line
from hpcrun.launchers.mpi import by_mpirun
from hpcrun.models.distributed import MpiConfiguration
from hpcrun.models.layout import Layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText

PROGRAM = """\
from mpi4py import MPI
name = MPI.Get_library_version().split("\\0")[0].split("\\n")[0].split(",")[0].strip()
wants = {"Open MPI": "pmix", "CRAY": "cray_shasta", "Intel": "pmi2", "MPICH": "pmi2", "MVAPICH": "pmi2"}
wants = next((pmi for make, pmi in wants.items() if make.lower() in name.lower()), "another")
print("hpcrun: world=%d wants=%s library=%s" % (MPI.COMM_WORLD.Get_size(), wants, name), flush=True)"""
"""A line from each process: the size of its world, the PMI plug-in of Slurm's that its MPI was most likely
made for, and what that MPI calls itself. Nothing of a Slurm or of hpcrun is needed."""

_WORLD = re.compile(r"hpcrun: world=(\d{1,6}) wants=(\w{1,40}) library=(.{0,200})")


@dataclass(frozen=True)
class World:
    """What one MPI process said."""

    size: int
    wants: str
    library: str


def read_worlds(lines: Iterable[str]) -> tuple[World, ...]:
    """What each process said that said anything."""
    found = (_WORLD.fullmatch(line.strip()) for line in lines)
    return tuple(World(int(match[1]), match[2], match[3].strip()) for match in found if match is not None)


def world_line(config: ScriptRunConfig, layout: Layout, site: Site) -> ShellText | None:
    """The srun command of two processes that say how many they are, on one node if one has two; None where
    that tells nothing, or is not wanted.

    Only Python can be asked, and only a script for which it is Python that runs.
    """
    asked = config.distributed_job_config
    if not isinstance(asked, MpiConfiguration) or not asked.check or layout.processes < 2:
        return None
    if not (config.script or "").endswith(".py"):
        return None
    if by_mpirun(site):
        return None
    two = replace(layout, nodes=1, tasks_per_node=2)
    if layout.tasks_per_node < 2:
        two = replace(layout, nodes=2, tasks_per_node=1)
    return srun_line(two, site, mpi=site.scheduler.mpi)
