"""Which runs and which metrics are meant, what was read of them, and how it is shown as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hpcrun.cli.metricstable import Measured, curves, others
from hpcrun.cli.text import drawn, printable, short_id
from hpcrun.errors import HpcrunError, NotFoundError
from hpcrun.metrics.growing import Growing
from hpcrun.metrics.series import Series, primary

if TYPE_CHECKING:
    from hpcrun.workspace import Workspace


def brought(workspace: Workspace, runs: Sequence[str]) -> dict[str, str]:
    """Have here what those of the runs that go on, on other machines, have told until now; what was the
    matter, by site or run."""
    history = workspace.history
    active = history.active_ids()
    far = [run for run in runs if run in active and history.get(run).host is not None]
    if not far:
        return {}
    from hpcrun.engine.measures import bring_metrics

    trouble = bring_metrics(history, workspace.targets, far)
    return {name: error.message for name, error in trouble.items()}


class Looked:
    """What was read of the runs' metrics, each once; a further look reads what is new."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._read: dict[str, Growing] = {}

    def all_of(self, run_id: str) -> list[Series]:
        growing = self._read.get(run_id)
        if growing is None:
            history = self.workspace.history
            growing = self._read[run_id] = Growing(history.seen(history.get(run_id)).metrics)
            growing.look()
        return growing.series

    def again(self) -> bool:
        """Read what is new; whether there was anything."""
        looks = [growing.look() for growing in self._read.values()]
        return any(looks)

    def labels(self, runs: Sequence[str]) -> dict[str, str]:
        """What each of the runs is called in a picture: by its display name, or by the end of its id."""
        named = {run: self.workspace.history.get(run).display_name for run in runs}
        return {
            run: f"{printable(name)} ({short_id(run)})" if name else short_id(run)
            for run, name in named.items()
        }

    def brought(self, runs: Sequence[str]) -> dict[str, str]:
        """Have here what runs on other machines have told until now; what was the matter."""
        trouble = brought(self.workspace, runs)
        self.again()
        return trouble

    def meant(self, words: Sequence[str], asked: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which words name runs, and which metrics. The first is a run; a later one that is a metric of the
        runs before it, is that. Raises NotFoundError, UsageError."""
        resolve = self.workspace.history.resolve
        runs = [resolve(words[0])]
        names: list[str] = []
        for word in words[1:]:
            known = {each.name for run in runs for each in self.all_of(run)}
            if word in known or any(c in word for c in "*?["):
                names.append(word)
                continue
            try:
                runs.append(resolve(word))
            except HpcrunError:
                if word.startswith("@"):
                    raise
                names.append(word)
        return [*dict.fromkeys(runs)], [*dict.fromkeys((*names, *asked))]


class Choice:
    """Which series are to be shown."""

    def __init__(self, names: Sequence[str], rank: int | None) -> None:
        self.names, self.rank = names, rank

    def __call__(self, series: Iterable[Series]) -> list[Series]:
        return self._named(primary(series, self.rank))

    def of_every_rank(self, series: Iterable[Series]) -> list[Series]:
        return self._named([each for each in series if self.rank in (None, each.rank)])

    def _named(self, series: list[Series]) -> list[Series]:
        if not self.names:
            return series
        return [each for name in self.names for each in series if _fits(each.name, name)]

    def check(self, looked: Looked, runs: Sequence[str], words: Sequence[str]) -> None:
        """Raise NotFoundError for a name that none of the runs has; of ``words``, it may have been a run."""
        found = [each for run in runs for each in looked.all_of(run)]
        for name in self.names:
            if not any(_fits(each.name, name) for each in found):
                raise no_metric(name, {each.name for each in found}, runs, or_run=name in words)


def _fits(name: str, wanted: str) -> bool:
    return name == wanted or fnmatchcase(name, wanted)


def no_metric(name: str, known: set[str], runs: Sequence[str], *, or_run: bool = False) -> NotFoundError:
    """The error for a metric that none of the runs has, with the nearest names of those they have."""
    import difflib

    where = f"run {runs[0]} has" if len(runs) == 1 else "the runs have"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(map(printable, near))}?"
    elif known:
        hint = f"see which there are: hpcrun metrics {short_id(runs[0])}"
    else:
        hint = "nothing was measured yet"
    either = ", and no run is called so" if or_run else ""
    return NotFoundError(f"{where} no metric {name!r}{either}", hint=hint)


def text(
    workspace: Workspace, found: Sequence[Measured], *, in_full: bool, log: bool, width: int | None = None
) -> list[str]:
    """What the terminal shows, line by line."""
    if width is None and drawn():
        import shutil

        width = shutil.get_terminal_size().columns
    parts = [curves(found, width=width, log=log)]
    if in_full:
        parts += [[*lines] for lines in _in_full(workspace, found)]
    else:
        parts.append(others(found))
    lines: list[str] = []
    for part in parts:
        lines += [*([""] if lines and part else []), *part]
    return lines


def _in_full(workspace: Workspace, found: Sequence[Measured]) -> Iterator[Iterator[str]]:
    from hpcrun.cli.metricsdocument import document_lines

    for run in found:
        folder = workspace.history.paths.run(run.run).folder
        for each in run.series:
            if not each.is_curve:
                shown = each if len(found) == 1 else replace(each, name=f"{short_id(run.run)} {each.name}")
                yield document_lines(shown, folder)
