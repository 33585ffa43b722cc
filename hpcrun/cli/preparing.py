"""What is shown while a run's environment is being made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpcrun.cli.errors import Interrupted
from hpcrun.cli.text import printable, short_id

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.workspace import Workspace


class Preparing:
    """Prints what is said of it on stderr, as it comes; ``interrupted`` is not empty once that is to end."""

    def __init__(self, workspace: Workspace, interrupted: list[int]) -> None:
        self._workspace, self._interrupted = workspace, interrupted
        self._seen: int | None = None
        self._rest = b""

    def __call__(self, record: RunRecord) -> bool:
        if self._seen is None:
            self._seen = 0
            title = record.config["environment"]["title"]
            click.echo(
                f"hpcrun: run {record.id} waits for the {printable(title)}, which is made now", err=True
            )
        try:
            with self._workspace.history.paths.run(record.id).environment_log.open("rb") as log:
                log.seek(self._seen)
                said = log.read()
        except OSError:
            said = b""
        self._seen += len(said)
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            click.echo(f"  {printable(line.decode('utf-8', 'replace'))}", err=True)
        return not self._interrupted


def interrupted_while_preparing(record: RunRecord) -> Interrupted:
    """What is said to somebody who does not wait for it."""
    name = short_id(record.id)
    return Interrupted(
        f"interrupted; the environment of {record.id} goes on being made",
        f"The run is submitted after that, by any command that looks at it: hpcrun wait {name}\n"
        f"end: hpcrun cancel {name}",
    )
