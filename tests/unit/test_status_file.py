"""status.json comes from where the payload runs: whatever lies there, reading it neither fails nor hangs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.places.status import JobStatus, read_status

GOOD = {
    "version": 1,
    "run_id": "x",
    "job_id": "7",
    "attempt": 2,
    "state": "failed",
    "stage": "payload",
    "started": "2026-01-31T12:00:00Z",
    "ended": "2026-01-31T12:00:07Z",
    "exit_code": 3,
    "signal": "TERM",
    "nodes": "n1",
    "message": "words",
}


def read(tmp_path: Path, content: Any) -> JobStatus | None:
    path = tmp_path / "status.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_status(path)


def test_a_good_one(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == JobStatus(
        "7", 2, "failed", "payload", "2026-01-31T12:00:00Z", "2026-01-31T12:00:07Z", 3, "TERM", "n1", "words",
        run_id="x",
    )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"job_id": "7"',
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\x00" * 100,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 10_000,
        json.dumps({**GOOD, "message": "x" * 200_000}).encode(),
    ],
)
def test_what_is_no_status_is_none(content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, content) is None


def test_none_is_there(tmp_path: Path) -> None:
    assert read_status(tmp_path / "status.json") is None
    assert read_status(tmp_path) is None
    assert read_status(tmp_path / "no" / "folder") is None


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "status.json")
    assert read_status(tmp_path / "status.json") is None


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps(GOOD))
    (tmp_path / "status.json").symlink_to(tmp_path / "elsewhere")
    assert read_status(tmp_path / "status.json") is None


def test_words_that_are_not_utf8_cost_only_themselves(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps({**GOOD, "message": "@"}).encode().replace(b"@", b"\xff\xfe"))
    assert found is not None
    assert (found.exit_code, found.message) == (3, "\N{REPLACEMENT CHARACTER}" * 2)


@pytest.mark.parametrize("value", [None, [], {}, True, 1.5, "3", 2**31, -(10**400), float("nan")])
def test_a_number_that_is_none(value: object, tmp_path: Path) -> None:
    found = read(tmp_path, {**GOOD, "exit_code": value, "attempt": value})
    assert found is not None
    assert (found.exit_code, found.attempt) == (None, 1)


@pytest.mark.parametrize(
    "value", [None, [], 7, "", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "9" * 3000, "\ud800"]
)
def test_a_time_that_is_none(value: object, tmp_path: Path) -> None:
    found = read(tmp_path, {**GOOD, "started": value, "ended": value})
    assert found is not None
    assert (found.started, found.ended) == (None, None)


@pytest.mark.parametrize("value", [None, [], {}, True, 7, 1.5])
def test_a_text_that_is_none(value: object, tmp_path: Path) -> None:
    names = ("run_id", "job_id", "state", "stage", "signal", "nodes", "message")
    found = read(tmp_path, {**GOOD, **dict.fromkeys(names, value)})
    assert found == JobStatus("", 2, "", "", str(GOOD["started"]), str(GOOD["ended"]), 3, "", None, "")


def test_long_texts_are_cut(tmp_path: Path) -> None:
    found = read(tmp_path, {**GOOD, "message": "x" * 50_000})
    assert found is not None and len(found.message) == 2000


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


@given(st.one_of(st.binary(), anything, st.dictionaries(st.sampled_from(sorted(GOOD)), anything)))
def test_whatever_lies_there(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    found = read(tmp_path_factory.getbasetemp(), content)
    if found is not None:
        assert isinstance(found.attempt, int)
        for text in (found.job_id, found.state, found.stage, found.signal, found.message):
            assert isinstance(text, str)
