"""hpcrun: configure, submit and follow training runs on Slurm clusters.

The public names are loaded when they are first used, so that importing hpcrun costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hpcrun.config.load import load_run_config as load_run_config
    from hpcrun.config.load import save_run_config as save_run_config
    from hpcrun.config.pipeline import Pipeline as Pipeline
    from hpcrun.config.pipeline import load_pipeline as load_pipeline
    from hpcrun.environment import Environment as Environment
    from hpcrun.experiment import Experiment as Experiment
    from hpcrun.experiment import Run as Run
    from hpcrun.functions.config import FunctionRunConfig as FunctionRunConfig
    from hpcrun.models.conda_dependencies import CondaDependencies as CondaDependencies
    from hpcrun.models.distributed import MpiConfiguration as MpiConfiguration
    from hpcrun.models.distributed import PyTorchConfiguration as PyTorchConfiguration
    from hpcrun.models.distributed import TensorflowConfiguration as TensorflowConfiguration
    from hpcrun.models.requeue import Requeue as Requeue
    from hpcrun.models.resources import Resources as Resources
    from hpcrun.models.run import RunConfiguration as RunConfiguration
    from hpcrun.models.run import ScriptRunConfig as ScriptRunConfig
    from hpcrun.quoting import Secret as Secret
    from hpcrun.workspace import Workspace as Workspace

_HOMES = {
    "CondaDependencies": "hpcrun.models.conda_dependencies",
    "Environment": "hpcrun.environment",
    "Experiment": "hpcrun.experiment",
    "FunctionRunConfig": "hpcrun.functions.config",
    "MpiConfiguration": "hpcrun.models.distributed",
    "Pipeline": "hpcrun.config.pipeline",
    "PyTorchConfiguration": "hpcrun.models.distributed",
    "Requeue": "hpcrun.models.requeue",
    "TensorflowConfiguration": "hpcrun.models.distributed",
    "Resources": "hpcrun.models.resources",
    "Run": "hpcrun.experiment",
    "RunConfiguration": "hpcrun.models.run",
    "ScriptRunConfig": "hpcrun.models.run",
    "Secret": "hpcrun.quoting",
    "Workspace": "hpcrun.workspace",
    "load_pipeline": "hpcrun.config.pipeline",
    "load_run_config": "hpcrun.config.load",
    "save_run_config": "hpcrun.config.load",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hpcrun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
