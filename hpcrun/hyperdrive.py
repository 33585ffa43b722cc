"""What Azure ML has in ``azureml.train.hyperdrive``: sweeps, in Python.

>>> from hpcrun.hyperdrive import HyperDriveConfig, RandomParameterSampling, choice, loguniform
"""

from __future__ import annotations

from hpcrun.config.sweep import load_sweep as load_sweep
from hpcrun.config.sweep import save_sweep as save_sweep
from hpcrun.models.expressions import Option as Option
from hpcrun.models.expressions import choice as choice
from hpcrun.models.expressions import lognormal as lognormal
from hpcrun.models.expressions import loguniform as loguniform
from hpcrun.models.expressions import normal as normal
from hpcrun.models.expressions import qlognormal as qlognormal
from hpcrun.models.expressions import qloguniform as qloguniform
from hpcrun.models.expressions import qnormal as qnormal
from hpcrun.models.expressions import quniform as quniform
from hpcrun.models.expressions import randint as randint
from hpcrun.models.expressions import uniform as uniform
from hpcrun.models.policies import AshaPolicy as AshaPolicy
from hpcrun.models.policies import BanditPolicy as BanditPolicy
from hpcrun.models.policies import MedianStoppingPolicy as MedianStoppingPolicy
from hpcrun.models.policies import NoTerminationPolicy as NoTerminationPolicy
from hpcrun.models.policies import TruncationSelectionPolicy as TruncationSelectionPolicy
from hpcrun.models.sweep import BayesianParameterSampling as BayesianParameterSampling
from hpcrun.models.sweep import GridParameterSampling as GridParameterSampling
from hpcrun.models.sweep import HyperDriveConfig as HyperDriveConfig
from hpcrun.models.sweep import PrimaryMetricGoal as PrimaryMetricGoal
from hpcrun.models.sweep import RandomParameterSampling as RandomParameterSampling
from hpcrun.sweep_run import HyperDriveRun as HyperDriveRun
