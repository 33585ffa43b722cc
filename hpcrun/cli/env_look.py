"""What the commands on environments share: the target they look at, and what they say of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcrun.cli.completing import complete_targets
from hpcrun.cli.session import looked_at

if TYPE_CHECKING:
    from hpcrun.engine.kept import Kept
    from hpcrun.history.record import RunRecord
    from hpcrun.targets import Target

F = TypeVar("F", bound=Callable[..., Any])


def target_option(command: F) -> F:
    """``--target``, this machine by default."""
    return click.option(
        "-t",
        "--target",
        default="local",
        metavar="SITE",
        shell_complete=complete_targets,
        help="Of which site; by default this machine as local.",
    )(command)


@dataclass(frozen=True)
class Looked:
    """The environments of a target, and the runs of this workspace that use them."""

    target: Target
    root: str
    found: list[Kept]
    runs: dict[str, list[RunRecord]]


@contextmanager
def looked(name: str) -> Iterator[Looked]:
    """Look at the environments of a site. A history that is there is asked; none is made."""
    from hpcrun.engine.kept import kept, users

    with looked_at() as (paths, targets, history), closing(targets):
        target = targets.get(name)
        root, found = kept(target, paths)
        yield Looked(target, root, found, users(history, target, root))


def document(look: Looked, each: Kept) -> dict[str, Any]:
    """One of them, for ``--json``."""
    from hpcrun.engine.kept import in_use, users_of

    about = each.about
    return {
        "name": each.name,
        "kind": each.name.partition("-")[0],
        "title": each.title,
        "state": each.state,
        "folder": f"{look.root}/{each.folder}",
        "bytes": each.size,
        "made": about.get("made"),
        "host": about.get("host"),
        "user": about.get("user"),
        "tool": about.get("tool"),
        "used": each.used,
        "runs": [record.id for record in users_of(each, look.runs)],
        "unfinished": [record.id for record in in_use(each, look.runs)],
    }
