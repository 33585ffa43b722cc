"""hpcrun: configure, submit and follow training runs on Slurm clusters.

The public names are loaded when they are first used, so that importing hpcrun costs next to nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing itself would cost more than all of this
if TYPE_CHECKING:
    from hpcrun.config.load import load_run_config as load_run_config
    from hpcrun.config.load import save_run_config as save_run_config
    from hpcrun.config.pipeline import Pipeline as Pipeline
    from hpcrun.config.pipeline import load_pipeline as load_pipeline
    from hpcrun.environment import Environment as Environment
    from hpcrun.experiment import Experiment as Experiment
    from hpcrun.experiment import InteractiveRun as InteractiveRun
    from hpcrun.experiment import Run as Run
    from hpcrun.functions.config import FunctionRunConfig as FunctionRunConfig
    from hpcrun.hyperdrive import AshaPolicy as AshaPolicy
    from hpcrun.hyperdrive import BanditPolicy as BanditPolicy
    from hpcrun.hyperdrive import BayesianParameterSampling as BayesianParameterSampling
    from hpcrun.hyperdrive import GridParameterSampling as GridParameterSampling
    from hpcrun.hyperdrive import HyperDriveConfig as HyperDriveConfig
    from hpcrun.hyperdrive import HyperDriveRun as HyperDriveRun
    from hpcrun.hyperdrive import MedianStoppingPolicy as MedianStoppingPolicy
    from hpcrun.hyperdrive import NoTerminationPolicy as NoTerminationPolicy
    from hpcrun.hyperdrive import Option as Option
    from hpcrun.hyperdrive import PrimaryMetricGoal as PrimaryMetricGoal
    from hpcrun.hyperdrive import RandomParameterSampling as RandomParameterSampling
    from hpcrun.hyperdrive import TruncationSelectionPolicy as TruncationSelectionPolicy
    from hpcrun.hyperdrive import choice as choice
    from hpcrun.hyperdrive import load_sweep as load_sweep
    from hpcrun.hyperdrive import lognormal as lognormal
    from hpcrun.hyperdrive import loguniform as loguniform
    from hpcrun.hyperdrive import normal as normal
    from hpcrun.hyperdrive import qlognormal as qlognormal
    from hpcrun.hyperdrive import qloguniform as qloguniform
    from hpcrun.hyperdrive import qnormal as qnormal
    from hpcrun.hyperdrive import quniform as quniform
    from hpcrun.hyperdrive import randint as randint
    from hpcrun.hyperdrive import save_sweep as save_sweep
    from hpcrun.hyperdrive import uniform as uniform
    from hpcrun.models.conda_dependencies import CondaDependencies as CondaDependencies
    from hpcrun.models.distributed import MpiConfiguration as MpiConfiguration
    from hpcrun.models.distributed import PyTorchConfiguration as PyTorchConfiguration
    from hpcrun.models.distributed import TensorflowConfiguration as TensorflowConfiguration
    from hpcrun.models.notify import Notify as Notify
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
    "InteractiveRun": "hpcrun.experiment",
    "MpiConfiguration": "hpcrun.models.distributed",
    "Pipeline": "hpcrun.config.pipeline",
    "PyTorchConfiguration": "hpcrun.models.distributed",
    "Notify": "hpcrun.models.notify",
    "Requeue": "hpcrun.models.requeue",
    "TensorflowConfiguration": "hpcrun.models.distributed",
    "Resources": "hpcrun.models.resources",
    "Run": "hpcrun.experiment",
    "RunConfiguration": "hpcrun.models.run",
    "ScriptRunConfig": "hpcrun.models.run",
    "Secret": "hpcrun.quoting",
    "Workspace": "hpcrun.workspace",
    "load_pipeline": "hpcrun.config.pipeline",
    **dict.fromkeys(
        (
            "AshaPolicy",
            "BanditPolicy",
            "BayesianParameterSampling",
            "GridParameterSampling",
            "HyperDriveConfig",
            "HyperDriveRun",
            "MedianStoppingPolicy",
            "NoTerminationPolicy",
            "Option",
            "PrimaryMetricGoal",
            "RandomParameterSampling",
            "TruncationSelectionPolicy",
            "choice",
            "load_sweep",
            "lognormal",
            "loguniform",
            "normal",
            "qlognormal",
            "qloguniform",
            "qnormal",
            "quniform",
            "randint",
            "save_sweep",
            "uniform",
        ),
        "hpcrun.hyperdrive",
    ),
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
