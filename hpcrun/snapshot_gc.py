"""Deleting snapshots that no run uses.

What a used snapshot has stays; all else goes, what a take that was broken off left behind too. The indexes go
first: git takes what stands in one for stored. So after a kill anywhere the store has all that is used, and
whatever is taken next is read and stored anew.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import SnapshotError
from hpcrun.snapshot_git import Store, lines


@dataclass(frozen=True)
class UnusedSnapshot:
    """``size`` is in bytes, of what goes with it and not with one before it in the list; ``taken`` is when it
    was last taken, in seconds since the epoch."""

    id: str
    taken: float
    size: int


@dataclass(frozen=True)
class Unused:
    """All that can go: ``other`` is in bytes, of what belongs to no snapshot."""

    snapshots: list[UnusedSnapshot]
    other: int
    _store: Store
    _objects: list[Path]

    @property
    def size(self) -> int:
        return sum(each.size for each in self.snapshots) + self.other

    def remove(self) -> None:
        """Delete it. Raises SnapshotError; the store then is sound, and the rest goes the next time."""
        try:
            for state in sorted(self._store.indexes.glob("*.json")):
                with self._store.lock(state.stem):  # a killed take's git may still be at it
                    state.unlink(missing_ok=True)
                    state.with_suffix(".index").unlink(missing_ok=True)
            for index in self._store.indexes.glob("*.index"):
                with self._store.lock(index.stem):
                    index.unlink(missing_ok=True)
            for path in self._objects:
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    path.parent.rmdir()  # where it was the last one
            for each in self.snapshots:
                (self._store.taken / each.id).unlink(missing_ok=True)
        except OSError as error:
            raise SnapshotError(f"cannot delete {error.filename}: {error.strerror}") from error


def find_unused(store: Store, used: Collection[str]) -> Unused:
    """What is in the store besides the snapshots ``used``. Nobody else may be using the store."""
    kept = _objects_of(store, used)
    there = {path.parent.name + path.name: path for path in store.folder.glob("objects/[0-9a-f][0-9a-f]/*")}
    free = {name: path for name, path in there.items() if name not in kept}
    sizes = {name: path.stat().st_size for name, path in free.items()}
    order = list(free)
    snapshots = []
    for marker in sorted(store.taken.iterdir()):
        if marker.name in used:
            continue
        own: set[str] = set()
        with suppress(SnapshotError):  # what is damaged can go as well
            own = _objects_of(store, [marker.name]) & sizes.keys() if marker.name in free else own
        snapshots.append(UnusedSnapshot(marker.name, marker.stat().st_mtime, sum(sizes.pop(n) for n in own)))
    trees_first = sorted(order, key=lambda name: not (store.taken / name).exists())
    return Unused(snapshots, sum(sizes.values()), store, [free[name] for name in trees_first])


def _objects_of(store: Store, trees: Collection[str]) -> set[str]:
    if not trees:
        return set()
    stdin = "".join(f"{tree}\n" for tree in sorted(trees)).encode()
    result = store.run("rev-list", "--objects", "--no-object-names", "--stdin", stdin=stdin)
    if not result.ok:
        raise SnapshotError(
            result.describe("the store of snapshots is damaged, and nothing was deleted"),
            hint="see what is wrong: hpcrun history verify",
        )
    return set(lines(result.stdout))
