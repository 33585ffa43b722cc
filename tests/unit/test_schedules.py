"""Recurring runs: when they are due, and that each time is one run, however ticks come."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine import slots
from hpcrun.engine.tick import tick
from hpcrun.errors import SubmissionRejected, UsageError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.schedules import Schedule, Schedules
from hpcrun.workspace import Workspace
from tests.cli_help import PATIENCE, Project, document, hpcrun, make_project, refused, typed
from tests.engine_help import ScriptedScheduler, until, use

ZONE = "Europe/Amsterdam"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def shown(fields: str, start: str, end: str) -> list[str]:
    return [at.strftime("%d %H:%M") for at in slots.due(fields, ZONE, utc(start), utc(end))]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)


def schedules(project: Project) -> Schedules:
    return Schedules(WorkspacePaths(project.folder / ".hpcrun"))


def put_back(project: Project, name: str, **ago: float) -> None:
    """As if no tick had come for so long."""
    at = (datetime.now(timezone.utc) - timedelta(**ago)).isoformat()

    def change(schedule: Schedule) -> None:
        schedule.done = at

    schedules(project).change(name, change)


def hourly() -> str:
    """Each hour, and not now: half an hour ago, and in half an hour."""
    return f"{(datetime.now().minute + 30) % 60} * * * *"


def started(project: Project) -> list[dict[str, Any]]:
    """The records of the runs that a schedule started, the oldest first."""
    records = [project.record(run_id) for run_id in reversed(project.runs)]
    return [record for record in records if "schedule" in record["properties"]]


def test_a_time_that_is_skipped_is_due_after_the_gap() -> None:
    assert shown("30 2 * * *", "2026-03-28T12:00+01:00", "2026-03-30T12:00+02:00") == ["29 01:00", "30 00:30"]


def test_a_time_that_comes_twice_is_due_once() -> None:
    found = shown("30 2 * * *", "2026-10-24T12:00+02:00", "2026-10-26T12:00+01:00")
    assert found == ["25 00:30", "26 01:30"]
    for begin in ("2026-10-25T02:30+02:00", "2026-10-25T02:45+02:00", "2026-10-25T02:15+01:00"):
        assert shown("30 2 * * *", begin, "2026-10-26T12:00+01:00") == ["26 01:30"], begin


def test_every_hour_is_an_hour_at_both_changes() -> None:
    for start in ("2026-10-24T22:10+00:00", "2026-03-28T22:10+00:00"):
        found = slots.due("30 * * * *", ZONE, utc(start), utc(start) + timedelta(hours=8))
        assert {b - a for a, b in pairwise(found)} == {timedelta(hours=1)}


@pytest.mark.parametrize("fields", ["*/7 * * * *", "30 2 * * *", "0 0 29 2 *", "5 4 * * 1-5", "0 12 1 */3 *"])
@pytest.mark.parametrize("years", [0.001, 0.1, 1, 9])
def test_the_latest_is_the_last_of_all(fields: str, years: float) -> None:
    for now in (utc("2026-03-29T04:10+02:00"), utc("2026-10-25T02:40+01:00"), utc("2026-07-01T00:00+00:00")):
        start = now - timedelta(days=366 * (years if "*/7" not in fields else min(years, 0.1)))
        found = slots.due(fields, ZONE, start, now)
        assert slots.latest(fields, ZONE, start, now) == (found[-1] if found else None)


def test_years_of_minutes_are_not_gone_through() -> None:
    now = utc("2026-07-01T00:00+00:00")
    assert slots.latest("* * * * *", "UTC", now - timedelta(days=3650), now) == now


@pytest.mark.parametrize(
    "text", ["", "daily", "* * * *", "61 * * * *", "0 0 31 2 *", "* * * * * *", "0 3 * * boo"]
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(UsageError):
        slots.fields_of(text)


def test_words_for_the_usual() -> None:
    assert slots.fields_of("@daily") == "0 0 * * *" and slots.fields_of(" 0  3 * * * ") == "0 3 * * *"


def test_it_is_started_once_when_it_is_due(project: Project) -> None:
    project.config("true", name="night.yaml")
    said = typed("submit", "night.yaml", "--schedule", "0 3 * * *", "--timezone", ZONE, "--tag", "a=b")
    assert said.startswith(f"scheduled exp: 0 3 * * * ({ZONE}), to local\n")
    typed("tick")
    assert project.runs == [], "not due yet"
    put_back(project, "exp", days=3)
    project.config("false", name="night.yaml")
    argv = [sys.executable, "-m", "hpcrun", "tick"]
    ticks = [subprocess.Popen(argv) for _ in range(4)]
    assert [tick.wait(60) for tick in ticks] == [0, 0, 0, 0]
    typed("tick")
    (run,) = started(project)
    assert run["properties"]["schedule"] == "exp" and run["tags"] == {"a": "b"}
    slot = datetime.fromisoformat(run["properties"]["schedule.slot"].replace("Z", "+00:00"))
    assert slot.astimezone(slots.zone_of(ZONE)).strftime("%H:%M") == "03:00"
    assert timedelta() <= datetime.now(timezone.utc) - slot <= timedelta(hours=25), (
        "the latest of those missed"
    )
    assert run["key"] == f"schedule/exp/{run['properties']['schedule.slot']}"
    assert 'command: "true"' in run["config"]["yaml"], "as it was scheduled"
    seen = document("schedule", "show", "exp")
    assert seen["last"] == {"slot": run["properties"]["schedule.slot"], "run": run["id"], "error": None}


def test_all_that_were_missed_if_that_is_wanted(project: Project) -> None:
    project.config("true")
    typed("submit", "run.yaml", "--schedule", hourly(), "--name", "each", "--catch-up", "all")
    put_back(project, "each", hours=3)
    typed("tick")
    found = [run["properties"]["schedule.slot"] for run in started(project)]
    assert len(found) == 3 and found == sorted(set(found))
    assert {run["display_name"] for run in started(project)} == {"each"}


def test_each_time_takes_the_source_as_it_is_then(project: Project) -> None:
    project.script("print(1)\n")
    typed("submit", "run.yaml", "--schedule", hourly(), "--catch-up", "all")
    put_back(project, "exp", hours=1)
    typed("tick")
    (project.folder / "train.py").write_text("print(2)\n")
    put_back(project, "exp", hours=2)
    typed("tick")
    first, second = started(project)
    assert first["snapshot"]["id"] != second["snapshot"]["id"]


def test_what_cannot_be_submitted_is_told_once_and_not_tried_again(project: Project) -> None:
    source = project.folder / "src"
    source.mkdir()
    project.config("true", source_directory=str(source))
    typed("submit", "run.yaml", "--schedule", hourly())
    source.rmdir()
    put_back(project, "exp", hours=1)
    said = refused("tick", code=8)
    assert said.startswith("hpcrun: schedule exp: ") and "not tried again" in said
    source.mkdir()
    assert refused("tick", code=8) == "" and project.runs == []
    assert "no such directory" in typed("schedule", "ls")
    put_back(project, "exp", hours=2)  # the next time
    assert "schedule exp: all is well again" in hpcrun("tick").stderr
    assert len(started(project)) == 1


def test_killed_before_it_is_written_down_it_is_one_run_all_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.config("true")
    typed("submit", "run.yaml", "--schedule", hourly())
    put_back(project, "exp", hours=1)

    class Killed(BaseException):
        pass

    def die(*args: object) -> None:
        raise Killed

    from hpcrun.engine.scheduled import start_due

    with monkeypatch.context() as patched, Workspace.open(project.folder) as workspace:
        patched.setattr(Schedules, "change", die)
        with pytest.raises(Killed):
            start_due(workspace.history, workspace.targets)
    typed("tick")
    (run,) = started(project)
    assert document("schedule", "show", "exp")["last"]["run"] == run["id"]


def test_a_clock_that_was_years_ahead_stops_nothing(project: Project) -> None:
    project.config("true")
    typed("submit", "run.yaml", "--schedule", hourly())
    put_back(project, "exp", days=-2000)
    typed("tick")
    typed("tick")
    assert len(started(project)) == 1


def test_a_pipeline(project: Project) -> None:
    steps = {"a": {"command": "true"}, "b": {"command": "true", "needs": ["a"]}}
    (project.folder / "pipeline.yaml").write_text(json.dumps({"experiment": "pipe", "steps": steps}))
    typed("submit", "pipeline.yaml", "--schedule", "@daily")
    assert document("schedule", "show", "pipe")["kind"] == "pipeline"
    assert "# step b" in typed("schedule", "show", "pipe")
    put_back(project, "pipe", days=1)
    typed("tick")
    assert [run["type"] for run in started(project) if run["parent"] is None] == ["pipeline"]
    assert len(project.runs) == 3


def sweep_file(project: Project, command: str = "true", **more: Any) -> str:
    """Four trials, two at a time."""
    section: dict[str, Any] = {"space": {"x": {"choice": [1, 2, 3, 4]}}, "sampling": "grid", "metric": "loss"}
    data = {"experiment": "tune", "command": command, "source_directory": "src"}
    section |= {"goal": "minimize", "max_concurrent_runs": 2, "pass_as": "variables", **more}
    (project.folder / "src").mkdir(exist_ok=True)
    (project.folder / "sweep.yaml").write_text(json.dumps({**data, "sweep": section}))
    return "sweep.yaml"


def test_a_sweep_is_started_once_and_moved_to_its_end_by_ticks(project: Project) -> None:
    name = sweep_file(project, command='echo "x is $x"')
    said = typed("submit", name, "--schedule", "0 3 * * *", "--timezone", ZONE, "--tag", "a=b")
    assert said.startswith(f"scheduled tune: 0 3 * * * ({ZONE}), to local\n")
    shown = document("schedule", "show", "tune")
    assert (shown["kind"], shown["target"], shown["last"]) == ("sweep", "local", None)
    typed("tick")
    assert project.runs == [], "not due yet"
    sweep_file(project, command="false")
    put_back(project, "tune", days=3)
    argv = [sys.executable, "-m", "hpcrun", "tick"]
    ticks = [subprocess.Popen(argv) for _ in range(4)]
    assert [tick.wait(PATIENCE) for tick in ticks] == [0, 0, 0, 0]

    def over() -> bool:
        typed("tick")
        return bool(document("show", sweep["id"], "--no-refresh")["state"] == "Completed")

    (sweep,) = started(project)
    until(over, "the sweep to end")
    slot = sweep["properties"]["schedule.slot"]
    assert (sweep["type"], sweep["key"], sweep["tags"]) == ("sweep", f"schedule/tune/{slot}", {"a": "b"})
    trials = document("sweep", "status", sweep["id"])["trials"]
    assert [trial["parameters"]["x"] for trial in trials] == [1, 2, 3, 4]
    assert typed("logs", trials[1]["id"]) == "x is 2\n", "as it was scheduled"
    assert len(project.runs) == 5 and project.record(trials[1]["id"])["tags"] == {"a": "b"}
    assert document("schedule", "ls")["schedules"][0]["last"] == {
        "slot": slot, "run": sweep["id"], "error": None,
    }  # fmt: skip
    text = typed("schedule", "show", "tune")
    assert "a sweep to local" in text and "\n# sweep.yaml\n" in text and "sampling: grid" in text
    assert text.count("  run  ") == 1, "the sweep, and none of its trials"


def test_a_sweep_that_was_begun_by_a_tick_that_was_killed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is killed before or after the first trials: one sweep, and each trial once."""
    import hpcrun.engine.sweep
    from hpcrun.engine.scheduled import start_due

    class Killed(BaseException):
        pass

    def die(*args: object, **more: object) -> None:
        raise Killed

    typed("submit", sweep_file(project), "--schedule", hourly())
    put_back(project, "tune", hours=1)
    for place, name in ((hpcrun.engine.sweep, "step_sweep"), (Schedules, "change")):
        with monkeypatch.context() as patched, Workspace.open(project.folder) as workspace:
            patched.setattr(place, name, die)
            with pytest.raises(Killed):
                start_due(workspace.history, workspace.targets)
    assert len(started(project)) == 1 and document("schedule", "show", "tune")["last"] is None
    typed("tick")
    (sweep,) = started(project)
    assert document("schedule", "show", "tune")["last"]["run"] == sweep["id"]
    typed("wait", sweep["id"])
    assert len(project.runs) == 5


def test_a_sweep_that_cannot_be_started_is_told_once(project: Project) -> None:
    typed("submit", sweep_file(project), "--schedule", hourly())
    (project.folder / "src").rmdir()
    put_back(project, "tune", hours=1)
    assert refused("tick", code=8).startswith("hpcrun: schedule tune: ")
    assert refused("tick", code=8) == "" and project.runs == []
    (project.folder / "src").mkdir()
    put_back(project, "tune", hours=2)  # the next time
    assert "schedule tune: all is well again" in hpcrun("tick").stderr
    assert [run["type"] for run in started(project)] == ["sweep"]


def test_a_sweep_that_is_refused_is_told_of_and_not_tried_again(project: Project) -> None:
    """By the tick that started it, and by whom its file names."""
    told = project.folder / "told"
    file = sweep_file(project)
    config = json.loads((project.folder / file).read_text())
    config["notify"] = {"on": "failed", "command": ["sh", "-c", f"cat >>'{told}'"]}
    (project.folder / file).write_text(json.dumps(config))
    typed("submit", file, "--schedule", hourly())
    put_back(project, "tune", hours=1)
    with Workspace.open(project.folder) as workspace:
        scheduler = use(workspace, ScriptedScheduler([SubmissionRejected("no such account")]))
        for _ in range(2):
            found = tick(workspace.history, workspace.targets)
            assert "no such account" in found.trouble["schedule tune"] and found.exit_code
        assert found.news == {} and len(scheduler.submitted) == 1
    (sweep,) = started(project)
    assert (sweep["state"], sweep["reason"], sweep["key"]) == ("Failed", "Rejected", None)
    (document,) = told.read_text().splitlines()
    assert json.loads(document)["event"] == f"{sweep['id']}/Failed"


def test_sweep_start_takes_a_schedule_too(project: Project) -> None:
    said = typed("sweep", "start", sweep_file(project), "--schedule", "@daily", "--name", "nightly")
    assert said.startswith("scheduled nightly: 0 0 * * * ")
    assert document("schedule", "show", "nightly")["kind"] == "sweep"
    project.config("true")
    assert "sweep" in refused("sweep", "start", "run.yaml", "--schedule", "@daily", code=3)
    assert "--schedule" in refused("sweep", "start", "sweep.yaml", "--timezone", "UTC", code=2)
    for options in ([], ["--schedule", "@daily"]):
        assert "did you mean sweep.yaml?" in refused("sweep", "start", "sweep.yml", *options, code=4)
    sweep_file(project, sampling="random")
    assert "max_total_runs" in refused("submit", "sweep.yaml", "--schedule", "@daily", code=3)
    assert [each["name"] for each in document("schedule", "ls")["schedules"]] == ["nightly"]


def test_pausing_and_taking_away(project: Project) -> None:
    typed("init")
    assert typed("schedule", "ls").startswith("no schedules")
    project.config("true")
    typed("submit", "run.yaml", "--schedule", hourly(), "--name", "one")
    assert "paused" in typed("schedule", "pause", "one")
    put_back(project, "one", hours=5)
    typed("tick")
    assert project.runs == [] and document("schedule", "ls")["schedules"][0]["next"] is None
    typed("schedule", "resume", "one")
    typed("tick")
    assert project.runs == [], "what went by meanwhile is not made up for"
    assert "did you mean one" in refused("schedule", "rm", "oone", code=4)
    assert typed("schedule", "rm", "one") == "removed one\n"
    assert "there are: none" in refused("schedule", "show", "one", code=4)


def test_a_damaged_file_is_said_and_the_others_go_on(project: Project) -> None:
    project.config("true")
    for name in ("one", "two"):
        typed("submit", "run.yaml", "--schedule", hourly(), "--name", name, "--catch-up", "all")
    file = project.folder / ".hpcrun/schedules/one.json"
    newer = {**json.loads(file.read_text()), "kind": "farm", "done": "2026-01-01T00:00:00Z"}
    for count, (text, words) in enumerate(
        [("{", "damaged"), (json.dumps(newer), "a newer one"), (json.dumps({**newer, "zone": 7}), "followed")]
    ):
        file.write_text(text)
        put_back(project, "two", hours=count + 1)
        said = hpcrun("tick").stderr
        assert said.startswith("hpcrun: schedule one: ") and words in said and len(said.splitlines()) == 1
        assert len(started(project)) == count + 1
    typed("schedule", "rm", "one")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--schedule", "0 25 * * *"], 2),
        (["--schedule", "@daily", "--timezone", "Mars/Base"], 2),
        (["--schedule", "@daily", "--wait"], 2),
        (["--schedule", "@daily", "--key", "k"], 2),
        (["--schedule", "@daily", "--name", "two words"], 2),
        (["--schedule", "@daily", "-t", "nowhere"], 3),
        (["--timezone", "UTC"], 2),
    ],
)
def test_mistakes_are_said_at_once(project: Project, options: list[str], code: int) -> None:
    project.config("true")
    refused("submit", "run.yaml", *options, code=code)
    assert not list((project.folder / ".hpcrun").rglob("schedules/*.json"))


def test_a_name_that_is_taken(project: Project) -> None:
    project.config("true")
    first = document("submit", "run.yaml", "--schedule", hourly())["schedule"]
    assert "hpcrun schedule rm exp" in refused("submit", "run.yaml", "--schedule", "@daily", code=2)
    assert document("schedule", "show", "exp")["schedule"] == first


def test_what_would_keep_it_from_being_started_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "x")
    monkeypatch.setenv("HOOK", "https://example.org/x")
    project.config("true", secrets={"TOKEN": "env:TOKEN"}, notify={"webhook": "env:HOOK"})
    said = hpcrun("submit", "run.yaml", "--schedule", hourly()).stderr
    assert "hpcrun cron install" in said and "env:TOKEN" in said and "env:HOOK will not be set" in said
