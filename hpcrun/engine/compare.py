"""In what two runs differ: configuration, environment, git, code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpcrun.config.tree import ListNode, MapNode, Node
from hpcrun.config.yamltree import parse
from hpcrun.errors import ConfigError
from hpcrun.history.record import RunRecord
from hpcrun.snapshot import SnapshotStore

ENVIRONMENT = ("environment", "environment_variables", "secrets")


@dataclass(frozen=True)
class Difference:
    """A key and its two values; None where a run does not say anything."""

    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Comparison:
    """All that differs. ``code`` is a unified diff, empty where both ran the same snapshot.

    ``environment`` has the configuration's keys ``environment``, ``environment_variables`` and ``secrets``,
    ``configuration`` all others.
    """

    configuration: list[Difference]
    environment: list[Difference]
    git: list[Difference]
    code: str

    @property
    def same(self) -> bool:
        return not (self.configuration or self.environment or self.git or self.code)


def compare(old: RunRecord, new: RunRecord, store: SnapshotStore) -> Comparison:
    """In what ``new`` differs from ``old``. Raises SnapshotError where a snapshot that is needed is gone."""
    found = _differences(settings(old), settings(new))
    environment = [each for each in found if each.key.partition(".")[0] in ENVIRONMENT]
    return Comparison(
        configuration=[each for each in found if each not in environment],
        environment=environment,
        git=_differences(git_of(old), git_of(new)),
        code=_code(old, new, store),
    )


def _code(old: RunRecord, new: RunRecord, store: SnapshotStore) -> str:
    ids = [str((record.snapshot or {}).get("id", "")) for record in (old, new)]
    return "" if ids[0] == ids[1] or not all(ids) else store.diff(*ids)


def git_of(record: RunRecord) -> dict[str, Any]:
    return {key: value for key, value in record.properties.items() if key.startswith("git.")}


def settings(record: RunRecord) -> dict[str, Any]:
    """The configuration by key path. Experiment and target count though unsaid."""
    text = record.config.get("yaml")
    flat: dict[str, Any] = {}
    if isinstance(text, str):
        try:
            flat = by_key(text, f"configuration of {record.id}")
        except ConfigError:
            flat["configuration"] = text  # damaged, and still one can see how
    return {**flat, "experiment": record.experiment, "compute_target": record.target}


def by_key(text: str, where: str) -> dict[str, Any]:
    """A configuration's values by key path (``resources.nodes``); a list is one value. Raises ConfigError."""
    flat: dict[str, Any] = {}
    node, _ = parse(text, where)
    if node is not None:
        _flatten(node, "", flat)
    return flat


def _flatten(node: Node, path: str, into: dict[str, Any]) -> None:
    if isinstance(node, MapNode) and node.entries:
        for key, child in node.entries.items():
            _flatten(child, f"{path}.{key}" if path else key, into)
    else:
        into[path] = _value(node)


def _value(node: Node) -> Any:
    if isinstance(node, MapNode):
        return {key: _value(child) for key, child in node.entries.items()}
    if isinstance(node, ListNode):
        return [_value(item) for item in node.items]
    return node.value


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    found = []
    for key in dict.fromkeys((*old, *new)):
        # As Python compares them, 1 would be 1.0 and True; a script sees the difference.
        if repr(old.get(key)) != repr(new.get(key)):
            found.append(Difference(key, old.get(key), new.get(key)))
    return found
