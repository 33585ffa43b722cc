"""MPI processes: by srun and the site's PMI plug-in under Slurm, by mpirun on this machine."""

from __future__ import annotations

from hpcrun.launchers.base import RANK, srun_line
from hpcrun.models.layout import Layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText


class MpiLauncher:
    def __init__(self, config: ScriptRunConfig, layout: Layout, site: Site) -> None:
        self._layout, self._site = layout, site

    def srun(self) -> ShellText:
        return srun_line(self._layout, self._site, mpi=self._site.scheduler.mpi)

    def here(self) -> ShellText:
        return ShellText("exec mpirun -n {} {}", self._layout.processes, RANK)

    def exports(self) -> list[ShellText]:
        return []
