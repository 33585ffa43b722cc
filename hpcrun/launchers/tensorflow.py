"""TensorFlow workers and parameter servers, which find each other by TF_CONFIG.

They are dealt out over the nodes in turn, workers first: process ``i`` is on node ``i`` modulo the number of
nodes, so that who is where is known before anybody has started.
"""

from __future__ import annotations

from hpcrun.launchers.base import srun_line
from hpcrun.models.layout import Layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText


class TensorflowLauncher:
    def __init__(self, config: ScriptRunConfig, layout: Layout, site: Site) -> None:
        self._layout, self._site = layout, site

    def srun(self) -> ShellText:
        return srun_line(self._layout, self._site, mpi="none", more=["--distribution=cyclic"])

    def here(self) -> ShellText:
        return ShellText("hpcrun_start_ranks {}", self._layout.processes)

    def exports(self) -> list[ShellText]:
        return []
