"""``hpcrun metrics RUN``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from hpcrun.cli.completing import complete_runs_and_metrics
from hpcrun.cli.group import Command
from hpcrun.cli.metricslook import Choice, Looked, text
from hpcrun.cli.metricstable import Measured
from hpcrun.cli.options import children_option, json_option
from hpcrun.cli.session import open_workspace, tell_trouble, with_children
from hpcrun.cli.text import print_json, short_id
from hpcrun.errors import UsageError
from hpcrun.metrics.rows import strict, utc
from hpcrun.metrics.series import Series, summary

DEFAULT_PICTURE = "metrics.png"


@click.command("metrics", cls=Command)
@click.argument(
    "words", nargs=-1, required=True, metavar="RUN... [NAME]...", shell_complete=complete_runs_and_metrics
)
@click.option("-m", "--metric", "asked", multiple=True, metavar="NAME", help="This metric; may be repeated.")
@click.option("--rank", type=click.IntRange(min=0), metavar="N", help="What this rank told.")
@click.option("--log", is_flag=True, help="Draw curves in a logarithmic scale.")
@click.option(
    "--plot",
    is_flag=False,
    flag_value=DEFAULT_PICTURE,
    metavar="[FILE]",
    help="Draw a picture of the curves, several runs in one.",
)
@click.option("--csv", "as_csv", is_flag=True, help="All values on stdout, as CSV.")
@children_option
@click.option("-f", "--watch", is_flag=True, help="Keep the table up to date until the runs have ended.")
@click.option("--no-refresh", is_flag=True, help="As last seen, without asking other machines.")
@json_option
def command(
    words: tuple[str, ...], asked: tuple[str, ...], rank: int | None, log: bool, plot: str | None,
    as_csv: bool, children: bool, watch: bool, no_refresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """What runs have measured: all of it in a table, or those of a NAME (val_* too) in full."""
    if plot is not None and not plot.endswith(".png") and "." not in plot and "/" not in plot:
        words, plot = (*words, plot), DEFAULT_PICTURE  # --plot loss: a metric, and no file
    _check(as_csv, as_json, plot, watch)
    workspace = open_workspace()
    looked = Looked(workspace)
    runs, names = looked.meant(words, asked)
    if children:
        runs = with_children(workspace, runs)
    choose = Choice(names, rank)
    if watch:
        from hpcrun.cli.metricswatch import watch as keep_up

        keep_up(workspace, looked, runs, choose, log=log)
        return
    if not no_refresh:
        tell_trouble(looked.brought(runs))
    if as_csv:
        from hpcrun.cli.metricscsv import print_points

        print_points([(run, looked.all_of(run)) for run in runs], choose.of_every_rank)
        return
    found = [Measured(run, choose(looked.all_of(run))) for run in runs]
    choose.check(looked, runs, words)
    if plot is not None:
        from hpcrun.cli.metricsplot import draw

        draw(found, Path(plot), looked.labels(runs), log=log, every=bool(names))
    if as_json:
        print_json({"runs": [_document(each, bool(names)) for each in found]})
        return
    if plot is not None:
        click.echo(plot)
        return
    for line in text(workspace, found, in_full=bool(names), log=log):
        click.echo(line)
    _tell_more(looked, runs, rank)


def _check(as_csv: bool, as_json: bool, plot: str | None, watch: bool) -> None:
    """Before anything is looked at. Raises UsageError, HpcrunError."""
    if as_csv and as_json:
        raise UsageError("--csv and --json do not go together")
    if watch:
        from hpcrun.cli.metricswatch import check_terminal

        check_terminal(otherwise=as_csv or as_json or plot is not None)
    if plot is not None:
        from hpcrun.metrics.picture import check_picture

        check_picture(Path(plot))


def _tell_more(looked: Looked, runs: Sequence[str], rank: int | None) -> None:
    """Whose metrics are not shown."""
    for run in runs:
        ranks = sorted({each.rank for each in looked.all_of(run)})
        if not ranks:
            click.echo(f"hpcrun: run {run} has measured nothing{_yet(looked, run)}", err=True)
            if looked.workspace.history.count_children(run):
                hint = (
                    f"hpcrun metrics {short_id(run)} --children, or hpcrun compare {short_id(run)} --children"
                )
                click.echo(f"  its children may have: {hint}", err=True)
        elif rank is None and len(ranks) > 1:
            click.echo(f"hpcrun: {len(ranks)} ranks of {short_id(run)} have metrics: --rank N", err=True)
        elif rank is not None and rank not in ranks:
            have = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
            click.echo(
                f"hpcrun: rank {rank} of {short_id(run)} told nothing; those that did: {have}", err=True
            )


def _yet(looked: Looked, run: str) -> str:
    return "" if looked.workspace.history.get(run).state.final else " yet"


def _document(measured: Measured, with_points: bool) -> dict[str, Any]:
    metrics = []
    for each in measured.series:
        known = summary(each)
        metrics.append(
            {
                "name": each.name,
                "kind": each.kind,
                "rank": each.rank,
                "count": known.count,
                "last": strict(known.last),
                "step": known.step,
                "min": strict(known.low),
                "max": strict(known.high),
                "points": [*_points(each)] if with_points else [],
            }
        )
    return {"id": measured.run, "metrics": metrics}


def _points(series: Series) -> Iterator[dict[str, Any]]:
    for step, time, value in zip(series.steps, series.times, series.values, strict=True):
        yield {"step": step, "time": utc(time), "value": strict(value)}
