"""Recurring runs: what is written down of them, and what a tick starts when it is due.

A slot is a time at which a schedule is due. Its run has a key made of both, so that it is one run however
many ticks find it due, and however late. What a site refuses, or what cannot be submitted as it is, is not
tried again: the next slot is. A site that cannot be reached is waited for, until the next slot takes this
one's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from hpcrun.config.load import dump_run_config, read_run_config
from hpcrun.config.pipeline import Pipeline
from hpcrun.config.sweep import dump_sweep, read_sweep
from hpcrun.engine import slots
from hpcrun.engine.clocks import moment
from hpcrun.engine.earlier import earlier_runs, names_runs
from hpcrun.engine.pipeline import prepare_pipeline, submit_pipeline
from hpcrun.engine.prepare import default_experiment, prepare
from hpcrun.engine.submit import Extras, submit
from hpcrun.engine.sweep import prepare_sweep, start_sweep
from hpcrun.errors import CommandError, ConfigError, HpcrunError, SubmissionAmbiguous, UnreachableError
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.schedules import Schedule, Schedules
from hpcrun.history.store import History
from hpcrun.models.notify import Notify
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.sweep import SweepConfig
from hpcrun.targets import Targets

What = ScriptRunConfig | Pipeline | SweepConfig
"""What may have a schedule."""

SCHEDULE, SLOT = "schedule", "schedule.slot"
"""Properties of a run that a schedule started."""

AT_ONCE = 100
"""Slots that one tick starts of a schedule, where all are to be made up for."""

_AHEAD = timedelta(days=1)
"""A slot that is so far ahead was written by a clock that was wrong."""


@dataclass
class Started:
    """``runs`` were started; ``trouble`` is the matter by schedule or site, ``exit_code`` the worst."""

    runs: list[str] = field(default_factory=list)
    trouble: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0

    def note(self, name: str, error: HpcrunError) -> None:
        self.trouble[name] = error.message if not error.hint else f"{error.message}: {error.hint}"
        self.exit_code = max(self.exit_code, error.exit_code)


def new_schedule(
    what: What,
    fields: str,
    *,
    name: str | None = None,
    zone: str | None = None,
    catch_up: str = "latest",
    tags: Mapping[str, str] | None = None,
) -> Schedule:
    """A schedule from now on; it is written down by :class:`Schedules`. Raises UsageError."""
    fields, zone, now = slots.fields_of(fields), zone or slots.local_zone(), utc_now()
    slots.zone_of(zone)
    first = runs_of(what)[0]
    own = what.experiment if isinstance(what, Pipeline) else first.experiment
    kind, config = _written(what)
    return Schedule(
        name=name or own or default_experiment(first),
        fields=fields,
        zone=zone,
        kind=kind,
        config=config,
        target=first.compute_target,
        created=now,
        done=now,
        catch_up=catch_up,
        tags=dict(tags or {}),
    )


def runs_of(what: What) -> list[ScriptRunConfig]:
    """The configurations of the runs that it makes: one, or one a step."""
    if isinstance(what, Pipeline):
        return [*what.steps.values()]
    return [what.run_config if isinstance(what, SweepConfig) else what]


def following(schedule: Schedule) -> datetime | None:
    """When it is due next."""
    if schedule.paused:
        return None
    return next(slots.after(schedule.fields, schedule.zone, datetime.now(timezone.utc)), None)


def start_due(history: History, targets: Targets, without: Iterable[str] = ()) -> Started:
    """Start what is due by now, but for what is to run on the sites ``without``, which cannot be reached."""
    started, away = Started(), set(without)
    schedules = Schedules(history.paths)
    for name in schedules.names():
        try:
            _start(history, targets, schedules, schedules.get(name), started, away)
        except HpcrunError as error:
            started.note(f"schedule {name}", error)
        except Exception as error:  # one that is damaged must not keep the others from being started
            words = f"this schedule cannot be followed: {type(error).__name__}: {error}"
            started.note(f"schedule {name}", CommandError(words))
    return started


def _start(
    history: History,
    targets: Targets,
    schedules: Schedules,
    schedule: Schedule,
    started: Started,
    away: set[str],
) -> None:
    place = f"schedule {schedule.name}"
    for slot in _due(schedule, datetime.now(timezone.utc)):
        site = _unreachable(targets, schedule, away, started)
        if site:
            return  # the slot waits
        at = slot.isoformat().replace("+00:00", "Z")
        key = f"schedule/{schedule.name}/{at}"
        entry: dict[str, Any] = {"slot": at, "run": None, "error": None}
        try:
            record, new = _submit(history, targets, schedule, key, at)
            entry["run"] = record.id
            if new:
                started.runs.append(record.id)
        except (UnreachableError, SubmissionAmbiguous) as error:
            known = history.by_key(key)
            if known is None:
                started.note(place, error)
                return
            entry["run"] = known.id  # it is written down, and whoever looks at it goes on with it
        except HpcrunError as error:
            known = history.by_key(key)
            entry |= {"run": known.id if known else None, "error": f"{at}: {error.message}"}
        schedule = schedules.change(schedule.name, lambda s, entry=entry: _dealt_with(s, entry))  # type: ignore[misc]
    last = schedule.last or {}
    if last.get("error") and not schedule.paused:
        started.note(place, CommandError(f"{last['error']}; not tried again before the next time"))


def _dealt_with(schedule: Schedule, entry: dict[str, Any]) -> None:
    schedule.done, schedule.last = entry["slot"], entry


def _due(schedule: Schedule, now: datetime) -> list[datetime]:
    done = moment(schedule.done) or now
    if schedule.paused:
        return []
    if done > now + _AHEAD:
        done = now - _AHEAD  # keys see to it that nothing is started twice
    if schedule.catch_up == "all":
        return slots.due(schedule.fields, schedule.zone, done, now)[:AT_ONCE]
    slot = slots.latest(schedule.fields, schedule.zone, done, now)
    return [] if slot is None else [slot]


def _unreachable(targets: Targets, schedule: Schedule, away: set[str], started: Started) -> str:
    """The first of its sites that cannot be reached now; nothing is begun then."""
    for target in _targets(schedule):
        site = target.partition(":")[0]
        if site in away:
            return site
        remote = targets.get(site).remote
        try:
            if remote is not None:
                with remote.rsh():
                    pass
        except UnreachableError as error:
            away.add(site)
            started.note(site, error)
            return site
    return ""


def _targets(schedule: Schedule) -> list[str]:
    if schedule.kind != "pipeline":
        return [schedule.target]
    return list(dict.fromkeys(step.compute_target for step in runs_of(_read(schedule))))


def _submit(
    history: History, targets: Targets, schedule: Schedule, key: str, slot: str
) -> tuple[RunRecord, bool]:
    known = history.by_key(key)
    if known is not None:
        return history.get(known.id), False
    extras = Extras(key=key, tags=schedule.tags, properties={SCHEDULE: schedule.name, SLOT: slot})
    what, paths = _read(schedule), history.paths

    def watch(record: RunRecord) -> bool:
        return False  # whose environment is yet to be made is sent by a later tick

    if isinstance(what, Pipeline):
        return submit_pipeline(
            history, targets, prepare_pipeline(what, paths, targets, history), extras, watch
        )
    if isinstance(what, SweepConfig):
        return start_sweep(history, targets, prepare_sweep(what, paths, targets, history), extras)
    earlier = earlier_runs(history if names_runs(what) else None, what)
    return submit(history, targets, prepare(what, paths, targets, earlier=earlier), extras, watch)


def _written(what: What) -> tuple[str, dict[str, Any]]:
    if isinstance(what, ScriptRunConfig):
        return "run", {"yaml": dump_run_config(what)}
    if isinstance(what, SweepConfig):
        return "sweep", {"yaml": dump_sweep(what)}
    notify = None if what.notify is None else what.notify.model_dump(mode="json")
    return "pipeline", {
        "steps": {name: dump_run_config(step) for name, step in what.steps.items()},
        **{key: getattr(what, key) for key in ("display_name", "description", "experiment")},
        "tags": dict(what.tags),
        "notify": notify,
    }


def _read(schedule: Schedule) -> What:
    """What is to be submitted, as it was when it was scheduled. Raises ConfigError."""
    config, shown = schedule.config, f"schedule {schedule.name}"
    if schedule.kind == "run":
        return read_run_config(config["yaml"], shown)
    if schedule.kind == "sweep":
        return read_sweep(config["yaml"], shown)
    if schedule.kind != "pipeline":
        raise ConfigError(
            f"this hpcrun knows no schedules of a {schedule.kind}: a newer one may have made it"
        )
    notify = None if config["notify"] is None else Notify(**config["notify"])
    steps = {name: read_run_config(text, f"{shown}, step {name}") for name, text in config["steps"].items()}
    more = {key: config[key] for key in ("display_name", "description", "experiment", "tags")}
    return Pipeline(steps, notify=notify, **more)
