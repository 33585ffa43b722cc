"""PyTorch processes: one a rank, rendezvous by MASTER_ADDR and MASTER_PORT (``init_method="env://"``).

All of them by srun, or those of a node by torchrun, which srun starts once a node. torchrun too starts
``job.sh rank``, so that logs and variables are the same.
"""

from __future__ import annotations

from hpcrun.launchers.base import NODE, srun_line
from hpcrun.models.distributed import PyTorchConfiguration
from hpcrun.models.layout import Layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, ShellWord, export

# A warning before the time limit goes to torchrun as well, which would end by it, and its processes with it.
# A handler, unlike an ignored signal, is not inherited by them. Slurm sends to every process of a step what
# it sends to one; on this machine torchrun is the one that is sent to, and passes it on.
_MAIN = """\
import glob, os, signal
def got(number, frame):
    for name in {tasks}:
        for child in open(name).read().split():
            os.kill(int(child), number)
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, got)
from torch.distributed.run import main
main()"""
_TASKS = {"slurm": "()", "local": "glob.glob('/proc/self/task/*/children')"}


class PyTorchLauncher:
    def __init__(self, config: ScriptRunConfig, layout: Layout, site: Site) -> None:
        assert isinstance(config.distributed_job_config, PyTorchConfiguration)
        self._backend = config.distributed_job_config.communication_backend
        self._layout, self._site = layout, site

    def srun(self) -> ShellText:
        return srun_line(self._layout, self._site, mpi="none")

    def here(self) -> ShellText:
        if self._layout.starter == "torchrun":
            return ShellText("exec {}", NODE)
        return ShellText("hpcrun_start_ranks {}", self._layout.processes)

    def exports(self) -> list[ShellText]:
        return [export("HPCRUN_COMMUNICATION_BACKEND", self._backend)]


def torchrun_line(config: ScriptRunConfig, layout: Layout, site: Site, python: ShellWord) -> ShellText:
    """torchrun on one node, as ``job.sh node`` runs it; ``python`` is the environment's.

    Nodes meet at MASTER_ADDR and MASTER_PORT, which the first of them serves: it is told so, since by
    itself torchrun compares names, and a site's fast network has others. For the same reason each node is
    told its own address. Where the number of nodes is open it is at most what the scheduler has given, so
    that nobody waits for more.
    """
    assert isinstance(config.distributed_job_config, PyTorchConfiguration)
    nodes = ShellText("{}", layout.nodes)
    if layout.least_nodes is not None:
        nodes = ShellText('{}:"${{SLURM_JOB_NUM_NODES:-1}}"', layout.least_nodes)
    return ShellText(
        "{} -c {} \\\n"
        "        --nnodes={} --nproc-per-node={} --max-restarts={} \\\n"
        '        --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" \\\n'
        '        --rdzv-id="$HPCRUN_RUN_ID.$HPCRUN_ATTEMPT" --rdzv-conf="is_host=$host" \\\n'
        '        --local-addr="$address" --no-python bash "$HPCRUN_RUN_DIR/job.sh" rank',
        python,
        ShellWord(_MAIN.format(tasks=_TASKS[site.scheduler.type])),
        nodes,
        layout.tasks_per_node,
        config.distributed_job_config.max_restarts,
    )
