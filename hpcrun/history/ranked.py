"""Which run is the best by what it measured.

    @highest:METRIC       the run whose last value of a metric is the highest; of two, the newer one
    @lowest:METRIC        … the lowest
    @NAME:highest:METRIC  the same among the runs of an experiment; so for all that follows
    @highest:max:METRIC   by the highest (min: the lowest) value that it ever had
    @best                 of the newest sweep, the trial that is best by the sweep's primary metric
    @best:METRIC          the highest or the lowest, as a sweep with that primary metric has for its goal

Children of other runs are among them, trials above all; archived runs are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from hpcrun.errors import NotFoundError, UsageError
from hpcrun.history.asking import known_name
from hpcrun.history.database import Database
from hpcrun.history.index import ARCHIVED_EXPERIMENT
from hpcrun.history.record import RunRecord
from hpcrun.history.words import RANKED
from hpcrun.metrics.where import LAST, LEAST, MOST, Name, named

_RANKED = re.compile(
    rf"@(?:([A-Za-z0-9][A-Za-z0-9_-]*):)?({'|'.join(RANKED)})(?::(.+))?", re.DOTALL | re.IGNORECASE
)
_SWEEPS = 100
"""So many sweeps are looked through for one with a metric."""

Records = Callable[[str], RunRecord]


def resolve_ranked(database: Database, records: Records, known: Callable[[str], str], ref: str) -> str | None:
    """The id of the best run; None where ``ref`` asks for none. ``records`` reads the record of a sweep,
    ``known`` raises NotFoundError for what is no experiment.

    Raises UsageError where it is not plain which metric, or what is better; NotFoundError.
    """
    asked = _RANKED.fullmatch(ref)
    if asked is None:
        return None
    experiment, word, metric = asked[1], asked[2].lower(), asked[3]
    if experiment is None and metric is not None and _is_experiment(database, asked[2]):
        return None  # @best:last is the last run of an experiment called best
    if experiment is not None:
        known(experiment)
    parent = None
    if word == "best":
        name, highest, parent = _goal(database, records, ref, experiment, metric)
    elif metric is None:
        raise UsageError(f"{ref!r}: the {word} of which metric?", hint=f"{ref}:METRIC, as in {ref}:val_acc")
    else:
        name, highest = named(metric), word == "highest"
    known_name(database.read, name)
    return _first(database, ref, experiment, name, highest, parent)


def _is_experiment(database: Database, name: str) -> bool:
    return bool(database.read("SELECT 1 FROM runs WHERE experiment = ? LIMIT 1", [name]))


def _goal(
    database: Database, records: Records, ref: str, experiment: str | None, metric: str | None
) -> tuple[Name, bool, str | None]:
    """The metric, whether the highest is best, and the sweep whose trials are asked for."""
    where = f"NOT {ARCHIVED_EXPERIMENT}" if experiment is None else "experiment = ?"
    sweeps = database.read(
        f"SELECT id FROM runs WHERE type = 'sweep' AND archived = 0 AND {where}"
        f" ORDER BY seq DESC LIMIT {_SWEEPS}",
        [] if experiment is None else [experiment],
    )
    for (sweep,) in sweeps:
        told = records(str(sweep)).config.get("sweep") or {}
        primary = told.get("metric") or told.get("primary_metric_name")
        highest = (told.get("goal") or told.get("primary_metric_goal")) != "minimize"
        if not isinstance(primary, str):
            continue
        if metric is None:
            name = Name(primary, "metric", MOST if highest else LEAST)
            return name, highest, str(sweep)
        if named(metric).text == primary:
            name = named(metric)
            return (
                replace(name, which=MOST if highest else LEAST) if name.which == LAST else name,
                highest,
                None,
            )
    head = "@" if experiment is None else f"@{experiment}:"
    if metric is None:
        raise UsageError(
            f"{ref!r}: there is no sweep, which would know by which metric",
            hint=f"{head}highest:METRIC or {head}lowest:METRIC",
        )
    raise UsageError(
        f"{ref!r}: no sweep says whether a high {metric} is good",
        hint=f"{head}highest:{metric} or {head}lowest:{metric}",
    )


def _first(
    database: Database, ref: str, experiment: str | None, name: Name, highest: bool, parent: str | None
) -> str:
    where = [f"NOT {ARCHIVED_EXPERIMENT}" if experiment is None else "runs.experiment = ?"]
    values: list[object] = [name.text] if experiment is None else [name.text, experiment]
    if parent is not None:
        where.append("runs.parent = ?")
        values.append(parent)
    rows = database.read(
        "SELECT runs.id FROM metrics AS asked CROSS JOIN runs WHERE asked.run = runs.seq AND asked.name = ?"
        f" AND asked.{name.which} < '' AND runs.archived = 0 AND {' AND '.join(where)}"
        f" ORDER BY asked.{name.which}{' DESC' if highest else ''}, asked.run DESC LIMIT 1",
        values,
    )
    if rows:
        return str(rows[0][0])
    place = "in this workspace" if experiment is None else f"in experiment {experiment!r}"
    if parent is not None:
        raise NotFoundError(
            f"no run {ref!r} {place}: none of the newest sweep, {parent}, has a number for the metric"
            f" {name.text!r:.300}",
            hint="of another sweep: hpcrun sweep best SWEEP",
        )
    raise NotFoundError(
        f"no run {ref!r} {place}: none has a number for the metric {name.text!r:.300}",
        hint="see which there are: hpcrun ls --sort metric:NAME --children",
    )
