"""One process, on the first node of the run."""

from __future__ import annotations

from hpcrun.launchers.base import RANK, srun_line
from hpcrun.models.layout import Layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText


class SingleLauncher:
    def __init__(self, config: ScriptRunConfig, layout: Layout, site: Site) -> None:
        self._layout, self._site = layout, site

    def srun(self) -> ShellText:
        return srun_line(self._layout, self._site, mpi="none")

    def here(self) -> ShellText:
        return ShellText("exec {}", RANK)

    def exports(self) -> list[ShellText]:
        return []
