"""``hpcrun diff RUN_A RUN_B``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace
from hpcrun.cli.text import drawn, print_json, printable, styled

if TYPE_CHECKING:
    from hpcrun.engine.compare import Comparison, Difference

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command("diff", cls=Command)
@click.argument("run_a", shell_complete=complete_runs)
@click.argument("run_b", shell_complete=complete_runs)
@json_option
def command(run_a: str, run_b: str, as_json: bool) -> None:
    """In what RUN_B differs from RUN_A: configuration, environment, git, code."""
    workspace = open_workspace()
    history = workspace.history
    old, new = (history.get(history.resolve(run)) for run in (run_a, run_b))
    from hpcrun.engine.compare import compare
    from hpcrun.shells.local import LocalShell
    from hpcrun.snapshot import SnapshotStore

    found = compare(old, new, SnapshotStore(history.paths.snapshots, LocalShell()))
    if as_json:
        print_json({"runs": [old.id, new.id], "same": found.same, **asdict(found)})
    elif found.same:
        click.echo(f"{old.id} and {new.id} ran the same code in the same way")
    else:
        for line in _lines(old.id, new.id, found):
            # As bytes, so that what is not a terminal gets a patch that applies.
            click.echo(line.encode("utf-8", "surrogateescape") if not drawn() else line)


def _lines(old: str, new: str, found: Comparison) -> Iterator[str]:
    yield styled(f"- {old}", "red")
    yield styled(f"+ {new}", "green")
    for name in ("configuration", "environment", "git"):
        differences: list[Difference] = getattr(found, name)
        if differences:
            yield ""
            yield f"{name}:"
        for each in differences:
            for sign, value in (("-", each.old), ("+", each.new)):
                if value is not None:
                    yield styled(f"{sign} {printable(each.key)}: {_shown(value)}", _COLOURS[sign])
    if found.code:
        yield ""
        yield "code:"
        for line in found.code.removesuffix("\n").split("\n"):
            # A file may hold what would play tricks on the terminal.
            text = "\t".join(printable(part) for part in line.split("\t")) if drawn() else line
            yield styled(text, _COLOURS.get(line[:1]))


def _shown(value: Any) -> str:
    return printable(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
