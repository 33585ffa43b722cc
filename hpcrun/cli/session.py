"""The workspace that a command works in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcrun.cli.group import Session
from hpcrun.cli.text import printable
from hpcrun.errors import NotFoundError, UsageError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.workspace import FOLDER, Workspace, find_workspace

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History
    from hpcrun.targets import Targets


def named_workspace() -> Path | None:
    """The folder that ``--workspace`` or the environment names."""
    session = click.get_current_context().find_object(Session)
    if session is None or session.workspace is None:
        return None
    folder = Path(os.path.abspath(session.workspace))  # noqa: PTH100 (links keep their names)
    return folder.parent if folder.name == FOLDER else folder


def history_paths() -> WorkspacePaths:
    """Where the workspace's history lies, for those who must not open it. Raises NotFoundError."""
    folder = workspace_folder() / FOLDER
    if not folder.is_dir():
        hint = _init_hint(folder.parent)
        raise NotFoundError(f"{folder.parent} is no workspace: it holds no {FOLDER}", hint=hint)
    return WorkspacePaths(folder)


def open_workspace() -> Workspace:
    """The workspace, which must be there; closed when the command ends. Raises NotFoundError."""
    named = named_workspace()
    if named is not None and not (named / FOLDER).is_dir():
        raise NotFoundError(f"{named} is no workspace: it holds no {FOLDER}", hint=_init_hint(named))
    workspace = Workspace.open(named)
    click.get_current_context().call_on_close(workspace.close)
    return workspace


def workspace_folder() -> Path:
    """The folder of the workspace that is, or that a submission would make."""
    here = Path.cwd()
    return named_workspace() or find_workspace(here) or here


@contextmanager
def looked_at() -> Iterator[tuple[WorkspacePaths, Targets, History | None]]:
    """The workspace as it is: a history that is there is asked, and none is made."""
    from hpcrun.history.store import History
    from hpcrun.targets import Targets

    folder = workspace_folder()
    there = (folder / FOLDER).is_dir()
    with History.open(folder / FOLDER) if there else nullcontext() as history:
        yield WorkspacePaths(folder / FOLDER), Targets(folder), history


def make_workspace() -> Workspace:
    """The workspace, made if need be; closed when the command ends. Raises NotFoundError for no folder."""
    folder = workspace_folder()
    if not folder.is_dir():
        raise NotFoundError(f"no such folder: {folder}", hint=_init_hint(folder))
    workspace = Workspace(folder)
    click.get_current_context().call_on_close(workspace.close)
    return workspace


def _init_hint(folder: Path) -> str:
    return f"Make it one: hpcrun init {folder}"


def resolve(workspace: Workspace, references: Sequence[str]) -> list[str]:
    """The ids of the runs meant, each once; all of them are found before anything is done to one."""
    return list(dict.fromkeys(workspace.history.resolve(reference) for reference in references))


def with_children(workspace: Workspace, references: Sequence[str]) -> list[str]:
    """As :func:`resolve`; of a run that has children those instead, the first before the others. Raises
    UsageError where no run has any."""
    ids = resolve(workspace, references)
    found: list[str] = []
    for run in ids:
        rows = workspace.history.list(parent=run, limit=None, include_archived=True, children=True)
        found += [row.id for row in reversed(rows)] or [run]
    if found == ids:
        raise UsageError("no such run has children", hint="Leave --children out.")
    return [*dict.fromkeys(found)]


def refresh_active(workspace: Workspace, run_ids: Sequence[str] | None = None) -> dict[str, str]:
    """Bring the runs that have not ended up to date; what was the matter, by site.

    Where all have ended, nothing is loaded for it and no scheduler is asked.
    """
    active = workspace.history.active_ids()
    if not active or (run_ids is not None and not active.intersection(run_ids)):
        return {}
    from hpcrun.engine.refresh import refresh

    return refresh(workspace.history, workspace.targets, run_ids).trouble


def refreshed(workspace: Workspace, run_id: str) -> RunRecord:
    """One run, brought up to date, with what it took; who did not answer is said on stderr."""
    tell_trouble(refresh_active(workspace, [run_id]))
    record = workspace.history.get(run_id)
    if record.usage is None and record.state.final and record.scheduler == "slurm":
        from hpcrun.engine.usage import complete_usage

        record = complete_usage(workspace.history, workspace.targets, record)
    return record


def tell_trouble(trouble: dict[str, str]) -> None:
    """One line on stderr for each site that did not answer."""
    for site, words in trouble.items():
        lines = words.strip().splitlines() or ["no answer"]
        # The last line is what the program itself said.
        click.echo(f"hpcrun: {site}: {printable(lines[-1].strip())}; shown as last seen", err=True)
