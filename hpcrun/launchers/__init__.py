"""How the processes of a run are started: one small file a kind, behind one small protocol.

To add a kind: a model in :mod:`hpcrun.models.distributed`, a file here, a line in ``_KINDS``.
"""

from __future__ import annotations

from hpcrun.launchers.base import Launcher
from hpcrun.launchers.mpi import MpiLauncher
from hpcrun.launchers.pytorch import PyTorchLauncher
from hpcrun.launchers.single import SingleLauncher
from hpcrun.launchers.tensorflow import TensorflowLauncher
from hpcrun.models.layout import Layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site

_KINDS: dict[str, type[Launcher]] = {
    "mpi": MpiLauncher,
    "pytorch": PyTorchLauncher,
    "single": SingleLauncher,
    "tensorflow": TensorflowLauncher,
}


def launcher_for(config: ScriptRunConfig, layout: Layout, site: Site) -> Launcher:
    """The part that starts the processes of a run laid out so."""
    return _KINDS[layout.kind](config, layout, site)


__all__ = ["Launcher", "launcher_for"]
