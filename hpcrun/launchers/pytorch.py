"""PyTorch processes: one a rank, rendezvous by MASTER_ADDR and MASTER_PORT (``init_method="env://"``)."""

from __future__ import annotations

from hpcrun.launchers.base import srun_line
from hpcrun.models.distributed import PyTorchConfiguration
from hpcrun.models.layout import Layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, export


class PyTorchLauncher:
    def __init__(self, config: ScriptRunConfig, layout: Layout, site: Site) -> None:
        assert isinstance(config.distributed_job_config, PyTorchConfiguration)
        self._backend = config.distributed_job_config.communication_backend
        self._layout, self._site = layout, site

    def srun(self) -> ShellText:
        return srun_line(self._layout, self._site, mpi="none")

    def here(self) -> ShellText:
        return ShellText("hpcrun_start_ranks {}", self._layout.processes)

    def exports(self) -> list[ShellText]:
        return [export("HPCRUN_COMMUNICATION_BACKEND", self._backend)]
