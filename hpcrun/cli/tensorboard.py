"""``hpcrun tensorboard RUN…``."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.group import Command
from hpcrun.cli.metricslook import brought
from hpcrun.cli.options import children_option, json_option
from hpcrun.cli.session import open_workspace, refresh_active, resolve, tell_trouble, with_children
from hpcrun.cli.text import print_json, short_id
from hpcrun.cli.watch import on_signals
from hpcrun.errors import CommandError, HpcrunError, UsageError

if TYPE_CHECKING:
    from hpcrun.workspace import Workspace

_LOOKS = 5.0
"""Seconds between two looks at what runs of this machine have told."""

_ASKS = 30.0
"""Seconds between two questions to other machines and schedulers."""


@click.command("tensorboard", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_runs)
@click.option(
    "--logdir", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Write there; by default into the workspace.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="By default 6006, or one that is free."
)
@click.option("--no-serve", is_flag=True, help="Write event files, and start nothing.")
@children_option
@json_option
def command(
    runs: tuple[str, ...],
    logdir: Path | None,
    port: int | None,
    no_serve: bool,
    children: bool,
    as_json: bool,
) -> None:
    """What runs have measured, in TensorBoard on this machine, until Ctrl-C; new points as they come."""
    if as_json and not no_serve:
        raise UsageError("--json goes with --no-serve alone: a TensorBoard that is served has no end")
    from hpcrun.engine.export_events import check_tensorboard

    check_tensorboard()
    workspace = open_workspace()
    ids = with_children(workspace, runs) if children else resolve(workspace, runs)
    tell_trouble({**refresh_active(workspace, ids), **brought(workspace, ids)})
    folder = (workspace.history.paths.tensorboard if logdir is None else logdir).absolute()
    points = written(workspace, ids, folder)
    if as_json:
        told = [{"id": run, "folder": str(folder / run), "new": points[run]} for run in ids]
        print_json({"logdir": str(folder), "runs": told})
        return
    for run in ids:
        click.echo(f"{folder / run}: {points[run]} new point{'' if points[run] == 1 else 's'}")
    if not no_serve:
        _serve(workspace, ids, folder, port)


def written(workspace: Workspace, runs: Sequence[str], folder: Path) -> dict[str, int]:
    """Write what is new of the runs; how many points, by run. Raises HpcrunError."""
    from hpcrun.engine.export_events import export_events

    history = workspace.history
    return {run: export_events(history, history.get(run), folder / run) for run in runs}


def _serve(workspace: Workspace, runs: Sequence[str], folder: Path, port: int | None) -> None:
    """TensorBoard over these runs alone, until Ctrl-C."""
    from hpcrun.shells.processes import clean_environment, end_group, start

    if importlib.util.find_spec("tensorboard.main") is None:
        raise CommandError("TensorBoard cannot be started here", hint="See the files elsewhere: --no-serve")
    with tempfile.TemporaryDirectory(prefix="hpcrun-tensorboard-") as view:
        for run in runs:  # in the workspace's own folder there are others, and names are easier read than ids
            (Path(view) / _readable(workspace, run)).symlink_to(folder / run)
        argv = [sys.executable, "-m", "tensorboard.main", "--logdir", view, "--host", "127.0.0.1"]
        argv += ["--reload_interval", str(int(_LOOKS))]
        argv += [] if port is None else ["--port", str(port)]
        with Path(os.devnull).open() as nothing:
            process = start(argv, clean_environment(), stdin=nothing.fileno(), output=sys.stderr.fileno())
        try:
            # Told to end, or left by its terminal, it ends what it has started as well.
            with on_signals(_stop, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                _keep_up(workspace, runs, folder, process.poll)
        except KeyboardInterrupt:
            click.echo("\nhpcrun: TensorBoard has ended; the files are kept", err=True)
            return
        finally:
            end_group(process)
        raise CommandError(f"TensorBoard ended by itself, with {process.returncode}")


def _stop(*args: object) -> None:
    raise KeyboardInterrupt


def _readable(workspace: Workspace, run: str) -> str:
    record = workspace.history.get(run)
    name = re.sub(r"[^A-Za-z0-9_.+=-]+", "_", record.display_name or record.experiment).strip("._") or "run"
    return f"{name[:80]}_{short_id(run)}"


def _keep_up(
    workspace: Workspace, runs: Sequence[str], folder: Path, ended: Callable[[], int | None]
) -> None:
    """Write what is new until TensorBoard has ended; what goes wrong meanwhile is tried again."""
    told: dict[str, str] = {}
    next_ask = time.monotonic() + _ASKS
    next_look = time.monotonic() + _LOOKS
    active = True
    while ended() is None:
        time.sleep(0.2)
        now = time.monotonic()
        if not active or now < next_look:
            continue
        next_look = now + _LOOKS
        trouble: dict[str, str] = {}
        try:
            if now >= next_ask:
                next_ask = now + _ASKS
                trouble = {**refresh_active(workspace, runs), **brought(workspace, runs)}
            final = all(workspace.history.get(run).state.final for run in runs)
            written(workspace, runs, folder)
            active = not final
        except HpcrunError as error:
            trouble = {"tensorboard": error.message}
        tell_trouble({name: words for name, words in trouble.items() if told.get(name) != words})
        told |= trouble
