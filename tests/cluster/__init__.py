"""A real multi-node Slurm cluster on one machine, for tests.  See README.md."""

from tests.cluster.cluster import Cluster
from tests.cluster.daemons import Daemon
from tests.cluster.host import HostProcess
from tests.cluster.options import Options
from tests.cluster.procs import ClusterError, CommandError, Process
from tests.cluster.support import unsupported_reason

__all__ = [
    "Cluster",
    "ClusterError",
    "CommandError",
    "Daemon",
    "HostProcess",
    "Options",
    "Process",
    "unsupported_reason",
]
