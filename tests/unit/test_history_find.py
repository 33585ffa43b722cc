"""Finding runs: lists and their filters, references people type, and the indexes that keep it quick."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import NotFoundError, UsageError
from hpcrun.history import index
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.states import FINAL, RunState

S = RunState


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / ".hpcrun", create=True) as opened:
        yield opened


def add(history: History, last: str, experiment: str = "cifar", **more: Any) -> str:
    """A run whose id ends as told."""
    more = {"target": "local", "scheduler": "local", **more}
    run_id = f"{experiment}_20260131-120000_{last}"
    return history.create(RunRecord(id=run_id, experiment=experiment, **more))[0].id


def lasts(history: History, **asked: Any) -> list[str]:
    return [row.id[-8:] for row in history.list(**asked)]


@pytest.fixture
def filled(history: History) -> History:
    add(history, "aaaaaaaa", state=S.COMPLETED, tags={"sweep": "s1", "lr": "1"}, target="snellius:gpu")
    add(history, "bbbbbbbb", state=S.FAILED, tags={"sweep": "s1", "lr": "2"}, target="snellius:rome")
    add(history, "cccccccc", "mnist", state=S.RUNNING, target="snellius", display_name="Blue Whale")
    add(history, "dddddddd", "mnist", state=S.CANCELED, tags={"sweep": "s2"}, archived=True)
    add(history, "eeeeeeee", state=S.QUEUED, target="snellius2:gpu", display_name="blue 100%")
    return history


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "ecba"),
        ({"include_archived": True}, "edcba"),
        ({"limit": 2}, "ec"),
        ({"limit": 2, "offset": 1}, "cb"),
        ({"limit": None, "offset": 3}, "a"),
        ({"limit": 0}, ""),
        ({"experiment": "cifar"}, "eba"),
        ({"experiment": "CIFAR"}, ""),
        ({"states": [S.FAILED]}, "b"),
        ({"states": ["Failed", "Completed"]}, "ba"),
        ({"states": {S.RUNNING, S.QUEUED}}, "ec"),
        ({"states": []}, ""),
        ({"states": FINAL, "include_archived": True}, "dba"),
        ({"tags": {"sweep": "s1"}}, "ba"),
        ({"tags": {"sweep": None}, "include_archived": True}, "dba"),
        ({"tags": {"sweep": "s1", "lr": "2"}}, "b"),
        ({"tags": {"sweep": "s1", "lr": None}, "states": [S.COMPLETED]}, "a"),
        ({"tags": {"sweep": "s3"}}, ""),
        ({"tags": {}}, "ecba"),
        ({"tags": {"x' OR 1 --": "y"}}, ""),
        ({"target": "snellius"}, "cba"),
        ({"target": "snellius:gpu"}, "a"),
        ({"target": "snell"}, ""),
        ({"name": "blue"}, "ec"),
        ({"name": "100%"}, "e"),
        ({"name": "%"}, "e"),
        ({"name": "AAAA"}, "a"),
        ({"since": "2999-01-01T00:00:00.000Z"}, ""),
        ({"since": "2000-01-01T00:00:00.000Z", "experiment": "mnist"}, "c"),
        ({"sort": "experiment"}, "ebac"),
        ({"sort": "target"}, "ceab"),
        ({"sort": "name"}, "ecba"),
        ({"sort": "state", "include_archived": True}, "dabec"),
        ({"sort": "number", "tags": {"sweep": None}, "include_archived": True}, "dba"),
        ({"experiment": "cifar", "states": [S.FAILED], "tags": {"sweep": "s1"}, "target": "snellius"}, "b"),
    ],
)
def test_filters(filled: History, asked: dict[str, Any], expected: str) -> None:
    assert lasts(filled, **asked) == [letter * 8 for letter in expected]


def test_a_state_that_is_none_is_refused(history: History) -> None:
    with pytest.raises(ValueError, match="Melted"):
        history.list(states=["Melted"])


def test_newest_first_does_not_depend_on_the_clock(history: History) -> None:
    add(history, "aaaaaaaa", created="2026-01-31T12:00:00.000Z")
    add(history, "bbbbbbbb", created="2020-01-31T12:00:00.000Z")
    assert lasts(history) == ["bbbbbbbb", "aaaaaaaa"]
    assert history.resolve("@-1").endswith("bbbbbbbb")


def test_active_runs_are_those_that_have_not_ended(history: History) -> None:
    for i, state in enumerate(S):
        add(history, "abcdefgh"[i % 8] * 7 + "a", f"e{i}", state=state, archived=i % 2 == 0)
    assert {row.state for row in history.active()} == set(S) - FINAL
    assert lasts(history, states=set(S) - FINAL, include_archived=True) == [
        row.id[-8:] for row in history.active()
    ]


def test_filters_agree_with_plain_python(history: History) -> None:
    chance = random.Random(7)
    for i in range(60):
        stamp = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=i)
        add(
            history, "".join(chance.choices("abcdefgh234567", k=8)), chance.choice(["a", "b"]),
            state=chance.choice(list(S)), archived=chance.random() < 0.2, created=stamp.isoformat(),
            target=chance.choice(["x", "x:p", "y"]),
            tags={name: chance.choice("12") for name in "uv" if chance.random() < 0.7},
        )  # fmt: skip
    records = [history.get(row.id) for row in history.list(limit=None, include_archived=True)]
    assert [r.created for r in records] == sorted((r.created for r in records if r.created), reverse=True)
    for _ in range(200):
        states = chance.sample(list(S), chance.randint(1, len(S)))
        tags = {name: chance.choice(["1", "2", None]) for name in "uv" if chance.random() < 0.5}
        experiment, target = chance.choice(["a", None]), chance.choice(["x", "x:p", None])
        expected = [
            r.id for r in records
            if not r.archived and r.state in states
            and (experiment is None or r.experiment == experiment)
            and (target is None or r.target == target or r.target.startswith(f"{target}:"))
            and all(key in r.tags and value in (None, r.tags[key]) for key, value in tags.items())
        ]  # fmt: skip
        rows = history.list(experiment=experiment, states=states, tags=tags, target=target, limit=7)
        assert [row.id for row in rows] == expected[:7]


def test_experiments(filled: History) -> None:
    first, second = filled.experiments()
    assert (first.name, first.runs, first.newest[-8:]) == ("cifar", 3, "eeeeeeee")
    assert (second.name, second.runs, second.newest[-8:]) == ("mnist", 2, "dddddddd")
    assert first.created == filled.get(first.newest).created


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("cifar_20260131-120000_aaaaaaaa", "aaaaaaaa"),
        ("aaaaaaaa", "aaaaaaaa"),
        ("120000_bbbbbbbb", "bbbbbbbb"),
        ("bb", "bbbbbbbb"),
        ("cifar_20260131-120000_a", "aaaaaaaa"),
        ("Blue Whale", "cccccccc"),
        ("blue 100%", "eeeeeeee"),
        ("@-1", "eeeeeeee"),
        ("@-2", "cccccccc"),
        ("@cifar:-1", "eeeeeeee"),
        ("@cifar:-3", "aaaaaaaa"),
        ("@cifar:2", "bbbbbbbb"),
        ("@mnist:2", "dddddddd"),
        ("@mnist:-1", "cccccccc"),
        ("dddddddd", "dddddddd"),
        ("@last", "eeeeeeee"),
        ("@LAST", "eeeeeeee"),
        ("@mnist:last", "cccccccc"),
        ("@completed", "aaaaaaaa"),
        ("@cifar:failed", "bbbbbbbb"),
        ("@running", "cccccccc"),
        ("@active", "eeeeeeee"),
        ("@mnist:active", "cccccccc"),
        ("@ended", "bbbbbbbb"),
    ],
)
def test_what_people_type(filled: History, ref: str, expected: str) -> None:
    assert filled.resolve(ref)[-8:] == expected


@pytest.mark.parametrize(
    "ref",
    ["zzz", "", "@-5", "@cifar:4", "@cifar:-9", "@none:-1", "%", "_%", "*", "blue whale", "a\n", "\x00", "@"],
)
def test_what_names_no_run(filled: History, ref: str) -> None:
    with pytest.raises(NotFoundError):
        filled.resolve(ref)


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("@canceled", "no run that is Canceled: '@canceled' in this workspace", "hpcrun ls"),
        ("@mnist:ended", "no run that has ended: '@mnist:ended' in experiment 'mnist'", "hpcrun ls"),
        ("@cifar:-9", "no run '@cifar:-9' in experiment 'cifar'", "hpcrun ls"),
        ("@cifr:failed", "no experiment 'cifr' in this workspace", "did you mean cifar?"),
        ("@cifar:fialed", "no run '@cifar:fialed' in this workspace: no such word", "@cifar:failed"),
        ("@compelted", "no such word", "did you mean @completed"),
        ("@cifar", "no such word", "did you mean @cifar:last"),
        ("@cifar:zzz", "no such word", "one of: last, active, ended,"),
    ],
)
def test_what_is_wrong_with_a_word(filled: History, ref: str, message: str, hint: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        filled.resolve(ref)
    assert message in caught.value.message and hint in str(caught.value.hint)


def test_every_state_is_a_word(history: History) -> None:
    ids = {state: add(history, f"{'abcdefgh234567'[i]}" * 8, state=state) for i, state in enumerate(S)}
    for state, run_id in ids.items():
        assert history.resolve(f"@{state.value.lower()}") == run_id
        assert history.resolve(f"@cifar:{state}") == run_id


def test_a_word_is_looked_up_in_an_index(history: History) -> None:
    seen: list[str] = []
    history._database._connection.set_trace_callback(seen.append)
    add(history, "aaaaaaaa", state=S.FAILED)
    history.resolve("@failed")
    history.resolve("@cifar:-1")
    history._database._connection.set_trace_callback(None)
    for sql in (sql for sql in seen if sql.startswith("SELECT id FROM runs WHERE") and "OFFSET" in sql):
        assert "USING INDEX" in plan(history, sql, []) and "TEMP B-TREE" not in plan(history, sql, [])


def test_a_display_name_that_begins_like_a_word(filled: History) -> None:
    run_id = add(filled, "ffffffff", display_name="@home", state=S.FAILED)
    add(filled, "gggggggg", display_name="@failed")
    assert filled.resolve("@home") == filled.resolve("@failed") == run_id


@pytest.mark.parametrize("ref", ["@0", "@3", "@cifar:0", "@-0", "@cifar:-0"])
def test_a_number_that_names_no_run(filled: History, ref: str) -> None:
    with pytest.raises(UsageError, match="names no run") as caught:
        filled.resolve(ref)
    assert "@-1" in str(caught.value.hint)


def test_the_nearest_ids_are_told(filled: History) -> None:
    for wrong, near in (
        ("aaaaaaab", "aaaaaaaa"),
        ("Blu Whale", "cccccccc"),
        ("cifar_20260131-120000_bbbbbbbz", "b" * 8),
    ):
        with pytest.raises(NotFoundError) as caught:
            filled.resolve(wrong)
        assert near in str(caught.value.hint)


def test_an_ambiguous_reference_lists_the_runs(history: History) -> None:
    ids = [add(history, f"{letter}aaaaaaa") for letter in "abcdefghijkl"]
    with pytest.raises(UsageError) as caught:
        history.resolve("cifar_")
    assert [run_id for run_id in ids if run_id in caught.value.message] == ids[2:]
    assert "…" in caught.value.message
    with pytest.raises(UsageError) as caught:
        history.resolve("aaaaaaa")
    assert ids[-1] in caught.value.message


def test_a_display_name_of_two_runs_is_ambiguous(history: History) -> None:
    ids = [add(history, letter * 8, display_name="twin") for letter in "abc"]
    with pytest.raises(UsageError) as caught:
        history.resolve("twin")
    assert all(run_id in caught.value.message for run_id in ids)
    assert "…" not in caught.value.message


def test_the_last_part_of_one_run_is_the_name_of_another(history: History) -> None:
    ids = [add(history, "aaaaaaaa"), add(history, "bbbbbbbb", display_name="aaaaaaaa")]
    with pytest.raises(UsageError) as caught:
        history.resolve("aaaaaaaa")
    assert all(run_id in caught.value.message for run_id in ids)


def test_a_whole_id_is_never_ambiguous(history: History) -> None:
    run_id = add(history, "aaaaaaaa")
    add(history, "bbbbbbbb", display_name=run_id)
    assert history.resolve(run_id) == run_id


def test_a_display_name_goes_before_a_part_of_an_id(history: History) -> None:
    add(history, "aaaaaaaa")
    named = add(history, "bbbbbbbb", "mnist", display_name="cifar")
    assert history.resolve("cifar") == named


def plan(history: History, sql: str, parameters: list[object]) -> str:
    return "\n".join(str(row[3]) for row in history._database.read(f"EXPLAIN QUERY PLAN {sql}", parameters))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"experiment": "a"},
        {"states": ["Failed"]},
        {"states": ["Failed", "Completed"]},
        {"tags": {"a": "b"}},
        {"tags": {"a": "b", "c": "d"}},
    ],
)
def test_no_list_sorts_the_whole_history(history: History, asked: dict[str, Any]) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("experiment", "states", "tags", "target", "name"))
    sql, parameters = index.listing(**{**nothing, **asked}, include_archived=False, limit=50, offset=0)
    assert "TEMP B-TREE" not in plan(history, sql, parameters)


def test_active_runs_have_an_index_of_their_own(history: History) -> None:
    states = [S.QUEUED.value, S.RUNNING.value]
    sql, parameters = index.listing(
        experiment=None, states=states, tags=None, target=None, name=None,
        include_archived=False, limit=50, offset=0,
    )  # fmt: skip
    active = f"{index.SELECT} FROM runs WHERE {index.ACTIVE_RUNS} ORDER BY seq DESC"
    assert "runs_active" in plan(history, active, [])
    assert "SEARCH runs USING INDEX" in plan(history, sql, parameters)


def test_lists_can_be_sorted_by_times(history: History) -> None:
    def day(number: int) -> str:
        return f"2026-01-{number:02d}T00:00:00.000Z"

    add(history, "aaaaaaaa", created=day(1), started=day(2), ended=day(20), state=S.COMPLETED)
    add(history, "bbbbbbbb", created=day(3), started=day(5), ended=day(6), state=S.COMPLETED)
    add(history, "cccccccc", created=day(4), started=day(4), ended=day(7), state=S.COMPLETED)
    add(history, "dddddddd", created=day(5))
    assert [run[0] for run in lasts(history, sort="started")] == ["b", "c", "a", "d"]
    assert [run[0] for run in lasts(history, sort="ended")] == ["a", "c", "b", "d"]
    assert [run[0] for run in lasts(history, sort="duration")] == ["a", "c", "b", "d"]
    assert [run[0] for run in lasts(history, sort="duration", limit=1, offset=1)] == ["c"]
    assert [run[0] for run in lasts(history, since=day(3))] == ["d", "c", "b"]


def test_what_goes_on_is_sorted_by_how_long_it_has_gone_on(history: History) -> None:
    add(history, "aaaaaaaa", started="2020-01-01T00:00:00.000Z", state=S.RUNNING)
    add(history, "bbbbbbbb", started="2021-01-01T00:00:00.000Z", ended="2021-02-01T00:00:00.000Z")
    assert [run[0] for run in lasts(history, sort="duration")] == ["a", "b"]
