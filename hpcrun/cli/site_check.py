"""``hpcrun site check NAME``."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.completing import complete_targets
from hpcrun.cli.errors import Interrupted
from hpcrun.cli.options import duration_of, json_option, memory_of
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.site_findings import counted, tell
from hpcrun.cli.text import print_json, printable
from hpcrun.errors import UsageError

if TYPE_CHECKING:
    from hpcrun.engine.bandwidth import Sweep
    from hpcrun.engine.doctor import SiteReport
    from hpcrun.models.site import Site
    from hpcrun.probe.bandwidth import Measured
    from hpcrun.probe.findings import Finding
    from hpcrun.shells.base import PosixShell


@click.command("check", short_help="Whether a site's file is right, and all is well there.")
@click.argument("name", shell_complete=complete_targets)
@click.option("--job", "with_job", is_flag=True, help="Also try it out with a job of a few minutes.")
@click.option("--bandwidth", is_flag=True, help="Measure how fast the nodes reach each other, by runs.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["nccl", "gloo", "mpi"]),
    help="What measures: nccl or gloo (torch), mpi (mpi4py); by default one of torch's, and mpi.",
)
@click.option(
    "--environment",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A run.yaml whose environment has torch or mpi4py.",
)
@click.option("--up-to", callback=memory_of, metavar="MEMORY", help="The largest message, such as 256M.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw what was measured.",
)
@click.option("--partition", "-p", metavar="NAME", help="The jobs' partition.")
@click.option("--account", "-A", metavar="NAME", help="The jobs' account.")
@click.option("--nodes", type=click.IntRange(1, 64), default=2, show_default=True, help="The jobs' nodes.")
@click.option(
    "--gpus", type=click.IntRange(0, 64), default=0, metavar="N", help="The jobs' GPUs on each node."
)
@click.option(
    "--timeout",
    callback=duration_of,
    default="10m",
    show_default=True,
    metavar="DURATION",
    help="Give a job up after so long.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context, /, name: str, with_job: bool, bandwidth: bool, as_json: bool, **asked: Any
) -> None:
    """Ask the site NAME once more: what has changed there, what is missing, and what to do about it.

    NAME:PARTITION names the partition of the jobs, too. The job of --job leaves nothing behind, that of
    --bandwidth is a run like any other, and Ctrl-C ends both. Ends with 3 for a problem.
    """
    from hpcrun.cli.site_bandwidth import sweeps_of
    from hpcrun.config.sites import find_site, read_site, split_target
    from hpcrun.engine.doctor import examine, shell_at

    name, partition = split_target(name)
    asked["partition"] = asked["partition"] or partition
    source = find_site(name, workspace_folder())
    site = read_site(source.path)
    if (with_job or bandwidth) and site.scheduler.type != "slurm":
        option = "--job" if with_job else "--bandwidth"
        raise UsageError(f"{name} has no scheduler that a job could be given to", hint=f"Leave {option} out.")
    sweeps = sweeps_of(asked) if bandwidth else []
    with shell_at(site.connection) as shell:
        report = examine(site, source.path, shell)
        if with_job:
            report = report.with_more(_tried(report, site, shell, asked))
    found = _measured(report, site, sweeps, asked) if sweeps else []
    for each in found:
        from hpcrun.probe.bandwidth import judge_bandwidth

        report = report.with_more(list(judge_bandwidth(each)))
    if as_json:
        print_json({**report.as_dict(), "bandwidth": [each.as_dict() for each in found]})
    else:
        _show(report, found)
    ctx.exit(report.exit_code)


def _measured(report: SiteReport, site: Site, sweeps: list[Sweep], asked: dict[str, Any]) -> list[Measured]:
    """What the runs measure, if there is a Slurm to give them to."""
    from hpcrun.cli.site_bandwidth import measured_there
    from hpcrun.cli.watch import on_signals

    if any(each.level == "problem" and each.code in ("Slurm", "Login") for each in report.findings):
        return []
    target = f"{site.name}:{asked['partition']}" if asked["partition"] else site.name
    try:
        with on_signals(_Patient(), signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            return measured_there(target, sweeps, asked, _tell_stand)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the run was canceled") from None


def _tried(report: SiteReport, site: Site, shell: PosixShell, asked: dict[str, Any]) -> list[Finding]:
    """What the job finds, if there is a Slurm to give it to."""
    from hpcrun.cli.watch import on_signals
    from hpcrun.engine.site_job import try_site
    from hpcrun.probe.job import Wanted

    if any(each.level == "problem" and each.code in ("Slurm", "Login") for each in report.findings):
        return []
    wanted = Wanted(asked["partition"], asked["nodes"], asked["gpus"], asked["account"])
    try:
        with on_signals(_Patient(), signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            return try_site(
                site,
                shell,
                wanted,
                folder=str(workspace_folder()),
                patience=float(asked["timeout"]),
                tell=_tell_stand,
            )
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the job was taken away") from None


def _tell_stand(words: str) -> None:
    with suppress(OSError):  # of a terminal that is gone
        click.echo(printable(words), err=True)


class _Patient:
    """The first Ctrl-C ends the waiting, the next leaves time to take the job away, the third does not."""

    def __init__(self) -> None:
        self._times = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._times += 1
        if self._times != 2:
            raise KeyboardInterrupt
        _tell_stand("hpcrun: taking the job away; Ctrl-C again leaves it there")


def _show(report: SiteReport, found: list[Measured]) -> None:
    from hpcrun.cli.site_bandwidth import table

    for each in found:
        table(each)
    for finding in report.findings:
        tell(finding)
    line = report.connection
    if line is not None:
        opened = {True: "was open", False: "was opened for this", None: "is up"}[line.was_open]
        click.echo(
            f"the connection to {printable(line.host)} {opened}; a question takes {line.milliseconds} ms"
        )
    slurm = f"Slurm {report.slurm} on {report.hostname}" if report.slurm else f"asked {report.hostname}"
    click.echo(f"{report.site}: {printable(slurm)}: {counted(report.findings)}")
