"""What every launcher gives to the job script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hpcrun.models.distributed import MpiConfiguration
from hpcrun.models.layout import Layout
from hpcrun.models.resources import SiteSbatchOptions
from hpcrun.models.run import ScriptRunConfig, argument_text
from hpcrun.models.site import Site
from hpcrun.quoting import Safe, ShellText, ShellWord, argv_text


class Launcher(Protocol):
    """Text for the job script.

    ``srun`` starts the processes under Slurm, ``here`` on this machine; both start ``job.sh rank``, which
    finds out its rank and runs the payload, or ``job.sh node``, which has another program start these.
    ``exports`` are further variables of the kind's own.
    """

    def __init__(self, config: ScriptRunConfig, layout: Layout, site: Site) -> None: ...

    def srun(self) -> ShellText: ...

    def here(self) -> ShellText: ...

    def exports(self) -> list[ShellText]: ...


def srun_line(layout: Layout, site: Site, *, mpi: str, more: Sequence[str] = ()) -> ShellText:
    """The srun command: every count restated, since what steps inherit differs from release to release.

    A step is given all GPUs of its nodes, and each process sees those of its node: nothing is said of GPUs
    here, since what srun has for it hides from a process the others' GPUs, which NCCL wants to reach.
    """
    nodes = 1 if layout.kind == "single" else layout.nodes
    started = nodes if layout.starter == "torchrun" else layout.processes
    counts = argv_text([f"--nodes={nodes}", f"--ntasks={started}"])
    if layout.least_nodes is not None:
        counts = ShellText('--nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES"')
    words = [
        f"--ntasks-per-node={-(-started // nodes)}",
        f"--cpus-per-task={layout.cpus_of_started}",
        *([] if mpi == "default" else [f"--mpi={mpi}"]),
        "--kill-on-bad-exit=1",
        *(["--no-kill"] if layout.least_nodes is not None else []),
        *option_words(site.scheduler.srun),
        *more,
    ]
    starts = NODE if layout.starter == "torchrun" else RANK
    return ShellText("srun {} {} {}", counts, argv_text(words), starts)


RANK = ShellText('bash -- "$HPCRUN_RUN_DIR/job.sh" rank')
NODE = ShellText('bash -- "$HPCRUN_RUN_DIR/job.sh" node')


def option_words(options: SiteSbatchOptions) -> list[str]:
    """``{"mail-type": "END", "hold": True}`` as long options."""
    words = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words.append(f"--{name}={value}")
    return words


def _patient(config: ScriptRunConfig) -> str:
    """What keeps the shell of a command there while what it started saves what it has. Traps of the command's
    own replace these; a program it starts gets the signals as if there were none."""
    if config.requeue is None:
        return ""
    return f'trap : {config.requeue.signal_name}; trap "exit 143" TERM; '


def payload(config: ScriptRunConfig, python: ShellWord) -> ShellText:
    """The user's own command, as every process runs it.

    Arguments go in one word each, nothing expanded. A ``.py`` script is run by the environment's Python,
    a ``.sh`` script by bash, any other must be executable. A command given as text is bash source; a pipe
    in it fails if any part of it does. A function is called by a program that was brought along with it.
    """
    if config.function is not None:
        return ShellText('{} "$HPCRUN_RUN_DIR/function.pyz"', python)
    if isinstance(config.command, str):
        return ShellText("bash -o pipefail -c {}", ShellWord(_patient(config) + config.command))
    if config.command is not None:
        return argv_text(config.command)
    assert config.script is not None
    script = config.script if config.script.startswith(("/", "./")) else f"./{config.script}"
    words: list[Safe] = []
    if script.endswith(".py"):
        words.append(python)
        if isinstance(config.distributed_job_config, MpiConfiguration):
            words.append(ShellText("${{HPCRUN_MPI4PY:+-m mpi4py}}"))
    elif script.endswith(".sh"):
        words.append(ShellWord("bash"))
    words.append(ShellWord(script))
    words += [ShellWord(argument_text(a)) for a in config.arguments]
    return ShellText.join(" ", words)
