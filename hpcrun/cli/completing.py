"""What the shell offers for a RUN, an experiment, a state and a target.

Only the index of the history and the sites' files are read: nothing is refreshed, and nothing heavy is
loaded. What cannot be looked up is not offered; no error may spoil the line that is being typed.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from hpcrun.history.store import History

F = TypeVar("F", bound=Callable[..., Any])

_Look = Callable[["History", str], Iterator[tuple[str, "str | None"]]]

_PLAIN = {*string.ascii_letters, *string.digits, *"_-./"}
_RUNS = 200
"""So many runs are looked through: whoever wants an older one types more, or looks with ``ls``."""


def run_argument(command: F) -> F:
    """``RUN``, as ``run``."""
    return click.argument("run", shell_complete=complete_runs)(command)


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Short ids, the newest first, then experiments as ``@NAME:``, behind that words and numbers of its runs;
    words alone only behind a ``@``, to which they are short."""
    return _of_history(ctx, _runs, incomplete)


def complete_runs_and_metrics(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Runs, and behind the first one its metrics before them, as the index has them."""
    words: tuple[str, ...] = ctx.params.get("words") or ()

    def look(history: History, incomplete: str) -> Iterator[tuple[str, str | None]]:
        if words:
            run = history.resolve(words[0])
            names = [metric.name for metric in history.metrics_of([run]).get(run, [])]
            yield from ((name, "metric") for name in dict.fromkeys(names) if name.startswith(incomplete))
        yield from _runs(history, incomplete)

    return _of_history(ctx, look, incomplete)


def complete_experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Experiments, the one with the newest run first."""
    return _of_history(ctx, _experiments, incomplete)


def complete_states(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What ``--status`` takes, in small letters."""
    from click.shell_completion import CompletionItem

    from hpcrun.history.words import STATES

    return [CompletionItem(word) for word in STATES if word.startswith(incomplete.lower())]


def complete_sorts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What ``ls --sort`` takes; behind ``metric:`` and the like the names that runs have."""
    from click.shell_completion import CompletionItem

    from hpcrun.history.index import SORTS

    if ":" in incomplete:
        return _of_history(ctx, _measures, incomplete)
    words = ["age", *SORTS, *(f"{each}:" for each in ("metric", "param", "min", "max"))]
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _measures(history: History, incomplete: str) -> Iterator[tuple[str, str | None]]:
    head = incomplete.partition(":")[0]
    names = history.parameter_names() if head.endswith("param") else history.metric_names()
    yield from _named(head, names, incomplete)


def _named(head: str, names: Iterable[str], incomplete: str) -> Iterator[tuple[str, str | None]]:
    """``head:NAME`` for names that a shell takes as they are: jobs choose them, and may choose ``$(…)``."""
    for name in names:
        if f"{head}:{name}".startswith(incomplete) and not set(name) - _PLAIN:
            yield f"{head}:{name}", None


def _of_history(ctx: click.Context, look: _Look, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    found: list[CompletionItem] = []
    with suppress(Exception):
        from hpcrun.history.store import History
        from hpcrun.workspace import FOLDER

        folder = _workspace(ctx)
        if folder is not None:
            with History.open(folder / FOLDER) as history:
                found += [CompletionItem(text, help=more) for text, more in look(history, incomplete)]
    return found


def _experiments(history: History, incomplete: str) -> Iterator[tuple[str, str | None]]:
    for each in history.experiments():
        if each.name.startswith(incomplete):
            yield each.name, f"{each.runs} runs" if each.runs > 1 else "1 run"


def _words(head: str, incomplete: str) -> Iterator[tuple[str, str | None]]:
    from hpcrun.history.words import RANKED, WORDS

    for word, (_, which) in WORDS.items():
        if f"{head}{word}".startswith(incomplete):
            yield f"{head}{word}", f"the newest {which or 'run'}"
    for word, which in RANKED.items():
        text = f"{head}{word}" if word == "best" else f"{head}{word}:"
        if text.startswith(incomplete):
            yield text, which


def _ranked(history: History, incomplete: str) -> Iterator[tuple[str, str | None]]:
    """``@highest:`` and the metrics that runs have."""
    from hpcrun.history.words import RANKED

    head, _, _ = incomplete.rpartition(":")
    if head.rpartition(":")[2].lstrip("@").lower() in RANKED:
        yield from _named(head, history.metric_names(), incomplete)


def _runs(history: History, incomplete: str) -> Iterator[tuple[str, str | None]]:
    from hpcrun.cli.text import age, short_id

    experiment, colon, _ = incomplete[1:].partition(":")
    yield from _ranked(history, incomplete)
    if incomplete.startswith("@") and colon:
        rows = history.list(experiment=experiment, limit=_RUNS, include_archived=True)
        if rows:
            yield from _words(f"@{experiment}:", incomplete)
        for row in rows:
            if (text := f"@{experiment}:{row.number}").startswith(incomplete):
                yield text, f"{row.state}, {age(row.created)}"
        return
    if incomplete.startswith("@"):
        yield from _words("@", incomplete)
    for row in history.list(limit=_RUNS):
        more = f"{row.experiment}, {row.state}, {age(row.created)}"
        if short_id(row.id).startswith(incomplete):
            yield short_id(row.id), more
        elif row.id.startswith(incomplete):
            yield row.id, more
    for each in history.experiments():
        if f"@{each.name}:".startswith(incomplete):
            yield f"@{each.name}:", None


def complete_schedules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Their names, with when they are due."""
    from click.shell_completion import CompletionItem

    found: list[CompletionItem] = []
    with suppress(Exception):
        from hpcrun.history.paths import WorkspacePaths
        from hpcrun.history.schedules import Schedules
        from hpcrun.workspace import FOLDER

        folder = _workspace(ctx)
        for each in [] if folder is None else Schedules(WorkspacePaths(folder / FOLDER)):
            if each.name.startswith(incomplete):
                found.append(CompletionItem(each.name, help=each.fields))
    return found


def complete_targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Sites, and behind ``SITE:`` its partitions."""
    from click.shell_completion import CompletionItem

    with suppress(Exception):
        return [CompletionItem(text) for text in _targets(_workspace(ctx) or Path.cwd(), incomplete)]
    return []


def complete_sites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Sites alone."""
    return [item for item in complete_targets(ctx, param, incomplete) if ":" not in item.value]


def _targets(workspace: Path, incomplete: str) -> Iterator[str]:
    from hpcrun.config.sites import find_sites
    from hpcrun.config.tree import MapNode, get
    from hpcrun.config.yamltree import read_file

    for name, source in find_sites(workspace).items():
        if name.startswith(incomplete):
            yield name
        if incomplete == name or incomplete.startswith(f"{name}:"):
            with suppress(Exception):  # a broken file keeps its own partitions to itself
                partitions = get(read_file(source.path)[0], ("partitions",))
                if isinstance(partitions, MapNode):
                    texts = (f"{name}:{partition}" for partition in partitions.entries)
                    yield from (text for text in texts if text.startswith(incomplete))


def _workspace(ctx: click.Context) -> Path | None:
    """The workspace that is there; the options before the command are read, but nothing has acted on them."""
    from hpcrun.workspace import FOLDER, find_workspace

    named = ctx.find_root().params.get("workspace")
    if named is None:
        return find_workspace(Path.cwd())
    folder = Path(named).absolute()
    return folder.parent if folder.name == FOLDER else folder
