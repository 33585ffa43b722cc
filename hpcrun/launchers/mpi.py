"""MPI processes: by srun and the site's PMI plug-in under Slurm, or by mpirun; by mpirun on this machine.

Where they run in containers, each has one of its own: what starts them is outside, and the MPI inside finds
the others by the variables that it has set.
"""

from __future__ import annotations

from hpcrun.launchers.base import RANK, srun_line
from hpcrun.models.layout import Layout
from hpcrun.models.resources import SiteSbatchOptions
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, argv_text


class MpiLauncher:
    def __init__(self, config: ScriptRunConfig, layout: Layout, site: Site) -> None:
        self._layout, self._site = layout, site

    def srun(self) -> ShellText:
        if by_mpirun(self._site):
            return self._mpirun()
        return srun_line(self._layout, self._site, mpi=self._site.scheduler.mpi)

    def here(self) -> ShellText:
        return ShellText("exec {}", self._mpirun())

    def _mpirun(self) -> ShellText:
        words = ["mpirun", "-n", str(self._layout.processes), *mpirun_options(self._site.scheduler.mpirun)]
        return ShellText("{} {}", argv_text(words), RANK)

    def exports(self) -> list[ShellText]:
        srun = self._site.scheduler.type == "slurm" and not by_mpirun(self._site)
        return [RING] if srun and self._layout.nodes > 1 and _may_speak_pmix(self._site) else []


RING = ShellText('export SLURM_PMIX_FENCE="${{SLURM_PMIX_FENCE:-ring}}"')
"""How Slurm's PMIx lets processes out of MPI_Init: by its ring, as it already shares their addresses, and not
by its tree, which lets some out so much sooner than others. Open MPI over TCP ends by a segmentation fault
when a message comes to a process that is still within MPI_Init (its issue 12495). What the site or the user
says counts."""


def _may_speak_pmix(site: Site) -> bool:
    """Whether srun may use Slurm's PMIx plug-in there: ``pmix``, ``pmix_v4``, or the cluster's own choice."""
    return site.scheduler.mpi == "default" or site.scheduler.mpi.startswith("pmix")


def by_mpirun(site: Site) -> bool:
    """Whether MPI's own mpirun starts MPI processes there."""
    return site.scheduler.mpi == "mpirun" or site.scheduler.type == "local"


def mpirun_options(options: SiteSbatchOptions) -> list[str]:
    """``{"bind-to": "none"}`` as ``--bind-to none``: not every mpirun takes an equals sign."""
    words = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", str(value)]
    return words
