"""``hpcrun compare RUN…``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.group import Command
from hpcrun.cli.metricslook import brought, no_metric
from hpcrun.cli.metricstable import cells_of, cut
from hpcrun.cli.options import children_option, json_option
from hpcrun.cli.session import open_workspace, refresh_active, resolve, tell_trouble, with_children
from hpcrun.cli.text import coloured, drawn, print_json, printable, short_id, styled, value_text
from hpcrun.engine.private import private_file
from hpcrun.errors import UsageError
from hpcrun.metrics.rows import strict

if TYPE_CHECKING:
    from hpcrun.engine.sidebyside import SideBySide
    from hpcrun.engine.sidebyside_rows import Row
    from hpcrun.history.store import History

LEAST, MOST = 10, 28
"""Characters of a run's column: what it has at least, and at most."""


@click.command("compare", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_runs)
@click.option(
    "-m", "--metric", "metrics", multiple=True, metavar="NAME", help="This metric; may be repeated."
)
@click.option("--only-different", is_flag=True, help="Leave out in what they agree.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page.")
@click.option(
    "--csv", "table", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), metavar="FILE",
    help="Write a line for each run; - is stdout.",
)  # fmt: skip
@click.option("--no-refresh", is_flag=True, help="As last seen, without asking schedulers.")
@children_option
@json_option
def command(
    runs: tuple[str, ...], metrics: tuple[str, ...], only_different: bool, html: Path | None,
    table: Path | None, children: bool, no_refresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Runs side by side: parameters, metrics, configuration, environment, git, times."""
    if table == Path("-") and as_json:
        raise UsageError("stdout has room for one document", hint="Name a file: --csv runs.csv")
    workspace = open_workspace()
    ids = with_children(workspace, runs) if children else resolve(workspace, runs)
    if len(ids) < 2:
        raise UsageError(
            "to compare takes two runs, or more", hint=f"All of one: hpcrun show {short_id(ids[0])}"
        )
    if not no_refresh:
        tell_trouble({**refresh_active(workspace, ids), **brought(workspace, ids)})
    from hpcrun.engine.sidebyside import side_by_side

    history = workspace.history
    found = side_by_side(history, [history.get(run) for run in ids], metrics)
    _check_metrics(history, found, metrics)
    if only_different:
        found = found.different()
    if html is not None:
        _write(html, found.to_html())
    if table is not None and table != Path("-"):
        _write(table, found.to_csv())
    if as_json:
        print_json(_document(found))
    elif table == Path("-"):
        click.echo(found.to_csv(), nl=False)
    elif html is None and table is None:
        for line in _lines(found, _width()):
            click.echo(line)
    else:
        for path in (html, table):
            if path is not None:
                click.echo(str(path))


def _check_metrics(history: History, found: SideBySide, metrics: Sequence[str]) -> None:
    """Raise NotFoundError where metrics were named, and none of the runs has any of them."""
    if not metrics or any(found.series):
        return
    from hpcrun.engine.measures import series_of

    known = {each.name for run in found.runs for each in series_of(history, history.get(run))}
    raise no_metric(metrics[0], known, found.runs)


def _write(path: Path, text: str) -> None:
    with private_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _document(found: SideBySide) -> dict[str, Any]:
    rows = [{**asdict(row), "values": strict(row.values), "differs": row.differs} for row in found.rows]
    return {"runs": found.runs, "rows": rows}


def _width() -> int | None:
    if not drawn():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def _lines(found: SideBySide, width: int | None) -> Iterator[str]:
    """Section by section; as many runs beside each other as find room, the others below."""
    if not found.rows:
        yield "the runs agree in everything"
        return
    names = [short_id(run) for run in found.runs]
    # The mark is for those who see no colour.
    keys = [f"{'*' if row.differs else ' '} {printable(row.key)}" for row in found.rows]
    texts = [[_text(value) for value in row.values] for row in found.rows]
    key_width = max(map(cells_of, keys))
    most = None
    if width is not None:
        key_width = min(key_width, max(14, width // 3), 40)
        most = max(LEAST, min(MOST, (width - key_width) // len(names) - 2))
    widths = [
        min(most or 10**6, max(len(name), *(cells_of(row[at]) for row in texts)))
        for at, name in enumerate(names)
    ]
    for group in _groups(widths, None if width is None else width - key_width):
        if group[0]:
            yield ""
        yield _bold(_line("", [names[at] for at in group], [widths[at] for at in group], key_width))
        section = ""
        for row, key, text in zip(found.rows, keys, texts, strict=True):
            if row.section != section:
                section = row.section
                yield styled(f"{section}:", "cyan")
            line = _line(key, [text[at] for at in group], [widths[at] for at in group], key_width)
            yield styled(line, "yellow") if row.differs and _interesting(row) else line


def _interesting(row: Row) -> bool:
    """Whether it is worth a colour that it differs: a number of its own has every run."""
    return (row.section, row.key) not in (("run", "number"), ("run", "created"))


def _groups(widths: Sequence[int], room: int | None) -> Iterator[list[int]]:
    group: list[int] = []
    for at in range(len(widths)):
        if room is not None and group and sum(widths[i] + 2 for i in [*group, at]) > room:
            yield group
            group = []
        group.append(at)
    yield group


def _text(value: Any) -> str:
    return "-" if value is None else value_text(value, 200)


def _line(key: str, texts: Sequence[str], widths: Sequence[int], key_width: int) -> str:
    cells = [cut(key, key_width), *(cut(text, width) for text, width in zip(texts, widths, strict=True))]
    padded = [c + " " * (w - cells_of(c)) for c, w in zip(cells, (key_width, *widths), strict=True)]
    return "  ".join(padded).rstrip()


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if coloured() else text
