"""What a run is given of earlier ones on other machines: brought home first, and from there to where it runs.

The run is submitted only after that, so whatever is cut off on the way is never used.
"""

from __future__ import annotations

from pathlib import Path

from hpcrun.engine.resume import at_home
from hpcrun.engine.sync import fetch_some, left_there
from hpcrun.errors import CommandError, NotFoundError
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places.base import Given
from hpcrun.targets import Targets


def given_to(record: RunRecord) -> list[Given]:
    """What the record says that the run is given."""
    found = record.config.get("given") or []
    return [Given(str(each["run"]), str(each["name"]), str(each["slot"])) for each in found]


def give(history: History, targets: Targets, record: RunRecord) -> None:
    """Have all of it where the run's script looks for it; done again, what is missing.

    Raises UnreachableError where one of the machines cannot be reached: what has come stays. CommandError,
    NotFoundError.
    """
    for given in given_to(record):
        try:
            owner = history.get(given.run)
        except NotFoundError:
            raise NotFoundError(f"{given.run}, whose {given.name} it was to have, is gone") from None
        path = _bring(history, targets, owner, given)
        place = targets.get(record.target).place
        place.give(record, given, path, trusted=owner.host is None, on_send=targets.on_send)


def _bring(history: History, targets: Targets, owner: RunRecord, given: Given) -> Path:
    """Where it is on this machine, once it is."""
    if owner.host is None:
        path = RunPaths(Path(owner.run_dir)).code / given.name
    else:
        path = at_home(history.paths, given)
        away = any(_is_of(given.name, name) for name in left_there(history.paths.run(owner.id)))
        if away or (owner.sync or {}).get("state") != "final":
            fetch_some(history, targets, owner.id, lambda name: _is_of(given.name, name))
        if not path.resolve().is_relative_to(history.paths.run(owner.id).folder.resolve()):
            raise CommandError(f"{given.name} of {owner.id} is a link that leads out of it")
    if not path.exists():
        raise CommandError(f"the run {owner.id} has no {given.name}")
    return path


def _is_of(what: str, name: str) -> bool:
    return name == what or name.startswith(f"{what}/")
