"""The group of all commands, and the door of the program.

Nothing heavy is imported here: ``hpcrun --help`` and ``--version`` load click, and no command.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import click

from hpcrun import __version__
from hpcrun.cli.group import LazyGroup, Session

COMMANDS = {
    "submit": ("hpcrun.cli.submit", "Submit the run that a run.yaml describes."),
    "check": ("hpcrun.cli.check", "What would go wrong if a run.yaml were submitted."),
    "run": ("hpcrun.cli.run", "Run a command, without any file."),
    "ls": ("hpcrun.cli.ls", "List runs, the newest first."),
    "show": ("hpcrun.cli.show", "All about one run."),
    "explain": ("hpcrun.cli.explain", "Why a run failed, or why it waits."),
    "logs": ("hpcrun.cli.logs", "What a run prints; -f follows it."),
    "metrics": ("hpcrun.cli.metrics", "What runs have measured, as curves; --watch while they go on."),
    "wait": ("hpcrun.cli.wait", "Wait for runs to end."),
    "cancel": ("hpcrun.cli.cancel", "Ask for the end of runs."),
    "sync": ("hpcrun.cli.sync", "Bring outputs and logs home from other machines."),
    "download": ("hpcrun.cli.download", "Get files of a run, those left on another machine too."),
    "rerun": ("hpcrun.cli.rerun", "Submit a run once more, the same code and all."),
    "diff": ("hpcrun.cli.diff", "In what two runs differ."),
    "compare": ("hpcrun.cli.compare", "Runs side by side: parameters, metrics, configuration, times."),
    "tensorboard": ("hpcrun.cli.tensorboard", "What runs have measured, in TensorBoard."),
    "export": ("hpcrun.cli.export", "Runs and their metrics for MLflow, as CSV or as Parquet."),
    "tag": ("hpcrun.cli.tag", "Set tags of a run, or take them away."),
    "open": ("hpcrun.cli.open", "Print the folder of a run."),
    "archive": ("hpcrun.cli.archive", "Hide runs or experiments from lists."),
    "restore": ("hpcrun.cli.restore", "Show archived runs or experiments again."),
    "login": ("hpcrun.cli.login", "Open the connection to a site, once for hours."),
    "logout": ("hpcrun.cli.logout", "Close it."),
    "history": ("hpcrun.cli.history", "Look after the run history: verify, rebuild, gc."),
    "tick": ("hpcrun.cli.tick", "Move every run one step: what cron calls."),
    "sweep": ("hpcrun.cli.sweep", "Many runs over a search space: sweep start, status, best, stop, retry."),
    "cron": ("hpcrun.cli.cron", "Have cron call tick: cron install, show, remove."),
    "schedule": ("hpcrun.cli.schedule", "Runs that recur: schedule ls, show, pause, resume, rm."),
    "site": ("hpcrun.cli.site", "The clusters hpcrun knows: site ls, show, add, check."),
    "env": ("hpcrun.cli.env", "The environments that hpcrun made: env ls, show, build, lock, rm, gc."),
    "init": ("hpcrun.cli.init", "Make a workspace."),
    "completion": ("hpcrun.cli.completion", "Completion for bash, zsh and fish."),
    "schema": ("hpcrun.cli.schema", "JSON Schema of run.yaml and of site files, for editors."),
}

EPILOG = """\b
To begin with:
  hpcrun submit run.yaml --follow   submit and watch a run
  hpcrun ls                         what became of all runs

RUN is an id, its unique end, a display name, @-1 (the newest), @failed or @cifar:last.
"""


@click.group(
    "hpcrun",
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--workspace",
    envvar="HPCRUN_WORKSPACE",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder whose .hpcrun holds the run history; by default found upward from here.",
)
@click.option("--debug", is_flag=True, envvar="HPCRUN_DEBUG", help="Show where an error came from.")
@click.version_option(__version__, "-V", "--version", message="hpcrun %(version)s")
@click.pass_context
def cli(ctx: click.Context, workspace: Path | None, debug: bool) -> None:
    """Configure, submit and follow runs on Slurm clusters, or on this machine."""
    session = ctx.ensure_object(Session)
    session.workspace = workspace
    session.debug = session.debug or debug
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def entry() -> None:
    """What the program runs: see ``hpcrun/__main__.py``."""
    # Reading modules makes many objects and no garbage: looking for it took a tenth of a submission's time.
    gc.set_threshold(50_000, 20, 20)
    for stream in (sys.stdout, sys.stderr):
        # A file name or a log line that the terminal's encoding lacks is shown escaped, and ends nothing.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="hpcrun")
