"""run.json: lossless, tolerant of newer versions, intolerant of anything else; and the names of runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpcrun.errors import HistoryError, UsageError
from hpcrun.history.record import MAX_RUN_ID, RunRecord, is_experiment, is_run_id, new_run_id, utc_now
from hpcrun.states import Reason, RunState

RUN_ID = "cifar_20260131-120000_abcdefgh"

# Any text, and names that are not UTF-8 as os.fsdecode() gives them.
texts = st.text(
    st.one_of(st.characters(codec="utf-8"), st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
)
maybe = st.none() | texts
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
known = {field.name for field in fields(RunRecord)}
records = st.builds(
    RunRecord,
    version=st.integers(1, 9),
    id=st.just(RUN_ID),
    number=st.integers(0),
    experiment=st.just("cifar"),
    display_name=maybe,
    type=texts,
    state=st.sampled_from(RunState),
    reason=texts,
    message=texts,
    target=texts,
    scheduler=texts,
    created=maybe,
    submitted=maybe,
    started=maybe,
    ended=maybe,
    exit_code=st.none() | st.integers(),
    run_dir=texts,
    job_id=maybe,
    key=maybe,
    config=objects,
    snapshot=st.none() | objects,
    properties=st.dictionaries(texts, texts, max_size=3),
    tags=st.dictionaries(texts, texts, max_size=3),
    submission=objects,
    attempts=st.lists(objects, max_size=3),
    states=st.lists(objects, max_size=3),
    nodes=maybe,
    archived=st.booleans(),
    extra=st.dictionaries(texts.filter(lambda key: key not in known), values, max_size=3),
)


@given(records)
def test_a_record_comes_back_as_it_was(record: RunRecord) -> None:
    text = record.to_json()
    assert text.isascii()
    assert RunRecord.from_json(text) == record
    assert RunRecord.from_json(text.encode()).to_json() == text


def test_a_record_is_json_a_person_can_read() -> None:
    record = RunRecord(id=RUN_ID, experiment="cifar", target="snellius", scheduler="slurm")
    record.state, record.reason = RunState.FAILED, Reason.OUT_OF_MEMORY
    data = json.loads(record.to_json())
    assert (data["state"], data["reason"]) == ("Failed", "OutOfMemory")
    assert "extra" not in data
    assert record.to_json().startswith('{\n  "version": 1,\n  "id": ')


def test_keys_of_a_newer_version_are_kept() -> None:
    data = json.loads(RunRecord(id=RUN_ID, experiment="e", target="t", scheduler="s").to_json())
    record = RunRecord.from_json(json.dumps({**data, "version": 2, "carbon": {"g": 3}}))
    assert record.extra == {"carbon": {"g": 3}}
    assert json.loads(record.to_json()) == {**data, "version": 2, "carbon": {"g": 3}}


def test_keys_an_older_version_did_not_have_get_their_default() -> None:
    data = json.loads(RunRecord(id=RUN_ID, experiment="e", target="t", scheduler="s").to_json())
    del data["nodes"], data["tags"]
    assert RunRecord.from_json(json.dumps(data)).tags == {}


@pytest.mark.parametrize("field", ["id", "number", "experiment", "state", "target", "scheduler"])
def test_a_record_without_its_core_is_refused(field: str) -> None:
    data = json.loads(RunRecord(id=RUN_ID, experiment="e", target="t", scheduler="s").to_json())
    del data[field]
    with pytest.raises(HistoryError, match=rf"here/run\.json: .*{field}"):
        RunRecord.from_json(json.dumps(data), where="here/run.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "Melted"}, "does not know the state 'Melted'"),
        ({"state": None}, "'state' cannot be None"),
        ({"id": "../../etc"}, "is not a run id"),
        ({"number": True}, "'number' cannot be True"),
        ({"number": "1"}, "'number' cannot be '1'"),
        ({"tags": []}, r"'tags' cannot be \[\]"),
        ({"archived": 0}, "'archived' cannot be 0"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], said: str) -> None:
    data = json.loads(RunRecord(id=RUN_ID, experiment="e", target="t", scheduler="s").to_json())
    with pytest.raises(HistoryError, match=said):
        RunRecord.from_json(json.dumps({**data, **change}))


@given(st.binary(max_size=40) | texts | values.map(json.dumps))
def test_what_is_no_record_is_refused(text: str | bytes) -> None:
    with pytest.raises(HistoryError):
        RunRecord.from_json(text)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(HistoryError):
        RunRecord.from_json("[" * 200_000)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", fullmatch=True))
@example("a" * 215)
@example("a" * 216)
@example("a" * 255)
def test_a_run_id_is_safe_and_fits(experiment: str) -> None:
    run_id = new_run_id(experiment)
    assert is_run_id(run_id) and len(run_id) <= MAX_RUN_ID <= 255
    head, stamp, tail = run_id.rsplit("_", 2)
    assert head == experiment[:215]
    assert re.fullmatch(r"\d{8}-\d{6}", stamp) and re.fullmatch(r"[a-z2-7]{8}", tail)


def test_a_run_id_tells_the_time_in_utc() -> None:
    moment = datetime(2026, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert new_run_id("a", moment).startswith("a_20260201-013000_")


def test_run_ids_differ() -> None:
    moment = datetime(2026, 1, 31, tzinfo=timezone.utc)
    assert len({new_run_id("a", moment) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a/b", "a\n", "ä", "a" * 256, "a$b", "."])
def test_bad_names_are_refused(name: str) -> None:
    assert not is_experiment(name)
    with pytest.raises(UsageError, match="experiment"):
        new_run_id(name)


@pytest.mark.parametrize(
    "text",
    [
        "", "cifar", RUN_ID + "\n", " " + RUN_ID, RUN_ID + "/..", RUN_ID.upper(),
        "_20260131-120000_abcdefgh",
        "cifar_20260131-120000_abcdefg1", "a" * 250 + "_20260131-120000_abcdefgh",
        "c_²0260131-120000_abcdefgh",
    ],
)  # fmt: skip
def test_what_is_no_run_id(text: str) -> None:
    assert not is_run_id(text)


def test_the_time_is_utc_with_milliseconds() -> None:
    text = utc_now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=1)


def test_the_history_needs_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import hpcrun.history.store\n"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"hpcrun", "org"}  # org: a probe of pickle's for Jython
