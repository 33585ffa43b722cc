"""A bar for what is being brought: bytes, rate and time left, on stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpcrun.cli.text import coloured, drawn

if TYPE_CHECKING:
    from hpcrun.engine.sync import Expected, OnPlan
    from hpcrun.targets import Targets

_WORTH_IT = 1_000_000
"""Bytes below which nobody needs a bar."""


@contextmanager
def bars(site: str = "") -> Iterator[OnPlan]:
    """What :func:`hpcrun.engine.sync.sync` calls when it knows what is to come."""
    if not drawn(sys.stderr):
        yield lambda expected: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left
    from rich.progress import TransferSpeedColumn as Speed

    console = Console(file=sys.stderr, no_color=not coloured(sys.stderr))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        Speed(),
        Left(),
    )
    progress = Progress(*columns, console=console, transient=True)

    def on_plan(expected: Expected) -> Callable[[int], None] | None:
        if expected.size < _WORTH_IT:
            return None
        progress.start()
        files = f"{expected.files} files" if expected.files > 1 else "1 file"
        task = progress.add_task(f"{site}{files}", total=expected.size)
        return lambda count: progress.advance(task, count)

    try:
        yield on_plan
    finally:
        progress.stop()


@contextmanager
def sending(targets: Targets) -> Iterator[None]:
    """Show how far files of earlier runs are that are sent to where a new one runs."""
    with bars("sending ") as on_plan:

        def on_send(files: int, size: int) -> Callable[[int], None] | None:
            from hpcrun.engine.sync import Expected

            return on_plan(Expected(1, files, size))

        targets.on_send = on_send
        try:
            yield
        finally:
            targets.on_send = None
