"""States: every word of Slurm's, legal moves, and that final is final."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.states import (
    ACTIVE,
    FINAL,
    MOVES,
    SLURM_ABBREVIATIONS,
    SLURM_STATES,
    Reason,
    RunState,
    from_slurm,
    may_move,
)
from tests.docs_help import DOCS

# JOB STATE CODES of squeue(1), 22.05 to 26.05: compact and long words.
SQUEUE = {
    "BF": "BOOT_FAIL", "CA": "CANCELLED", "CD": "COMPLETED", "CF": "CONFIGURING", "CG": "COMPLETING",
    "DL": "DEADLINE", "F": "FAILED", "NF": "NODE_FAIL", "OOM": "OUT_OF_MEMORY", "PD": "PENDING",
    "PR": "PREEMPTED", "R": "RUNNING", "RD": "RESV_DEL_HOLD", "RF": "REQUEUE_FED", "RH": "REQUEUE_HOLD",
    "RQ": "REQUEUED", "RS": "RESIZING", "RV": "REVOKED", "SI": "SIGNALING", "SE": "SPECIAL_EXIT",
    "SO": "STAGE_OUT", "ST": "STOPPED", "S": "SUSPENDED", "TO": "TIMEOUT",
}  # fmt: skip
# JOB STATE CODES of sacct(1), the same versions.
SACCT = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PENDING",
    "PREEMPTED", "RUNNING", "REQUEUED", "RESIZING", "REVOKED", "SUSPENDED", "TIMEOUT",
}  # fmt: skip
# Further flags, which newer releases (24.05 on) print in JSON and with scontrol.
FLAGS = {"EXPEDITING", "LAUNCH_FAILED", "POWER_UP_NODE", "RECONFIG_FAIL", "UPDATE_DB", "STAGE_IN"}
WORDS = {*SQUEUE, *SQUEUE.values(), *SACCT, *FLAGS}

# Those after which Slurm itself does nothing more with the job.
ENDED = {
    "BOOT_FAIL": (RunState.FAILED, Reason.BOOT_FAIL),
    "CANCELLED": (RunState.CANCELED, Reason.CANCELED),
    "COMPLETED": (RunState.COMPLETED, Reason.NONE),
    "DEADLINE": (RunState.FAILED, Reason.DEADLINE),
    "FAILED": (RunState.FAILED, Reason.BAD_EXIT),
    "LAUNCH_FAILED": (RunState.FAILED, Reason.LAUNCH_FAILED),
    "NODE_FAIL": (RunState.FAILED, Reason.NODE_FAIL),
    "OUT_OF_MEMORY": (RunState.FAILED, Reason.OUT_OF_MEMORY),
    "PREEMPTED": (RunState.FAILED, Reason.PREEMPTED),
    "RECONFIG_FAIL": (RunState.FAILED, Reason.LAUNCH_FAILED),
    "REVOKED": (RunState.FAILED, Reason.REVOKED),
    "TIMEOUT": (RunState.FAILED, Reason.TIMEOUT),
}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_every_word_of_slurm_is_known(word: str) -> None:
    assert from_slurm(word) is not None


def test_the_table_holds_no_word_that_slurm_does_not_print() -> None:
    assert set(SLURM_STATES) | set(SLURM_ABBREVIATIONS) == WORDS


@pytest.mark.parametrize(("short", "long"), SQUEUE.items())
def test_short_and_long_words_mean_the_same(short: str, long: str) -> None:
    assert from_slurm(short) == from_slurm(long)


def test_only_words_of_ends_end_a_run() -> None:
    found = {word: meaning for word, meaning in SLURM_STATES.items() if meaning[0].final}
    assert found == ENDED


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("CANCELLED by 0", RunState.CANCELED),
        ("CANCELLED by 1000", RunState.CANCELED),
        ("CANCELLED+", RunState.CANCELED),
        ("OUT_OF_ME+", None),
        (" RUNNING \n", RunState.RUNNING),
        ("running", RunState.RUNNING),
    ],
)
def test_suffixes_are_dropped(word: str, state: RunState | None) -> None:
    found = from_slurm(word)
    assert (found and found[0]) == state


@pytest.mark.parametrize(
    "word", ["", " ", "?", "UNKNOWN", "INVALID", "DONE", "COMPLETE", "FAILEDX", "by", "+"]
)
def test_an_unknown_word_tells_nothing(word: str) -> None:
    assert from_slurm(word) is None


@given(st.text())
def test_any_text_may_come(word: str) -> None:
    found = from_slurm(word)
    assert found is None or found in SLURM_STATES.values()


def test_final_is_final() -> None:
    assert {RunState.COMPLETED, RunState.FAILED, RunState.CANCELED} == FINAL
    for state in FINAL:
        assert state.final and not MOVES[state]
        assert not any(may_move(state, new) for new in RunState)


def test_every_state_has_its_moves_and_a_way_to_an_end() -> None:
    assert set(MOVES) == set(RunState) == FINAL | ACTIVE
    for state in ACTIVE:
        assert MOVES[state] >= {RunState.COMPLETED, RunState.FAILED, RunState.CANCELED}
        assert not may_move(state, state)
        assert not may_move(state, RunState.NOT_STARTED)


@pytest.mark.parametrize("old", [RunState.RUNNING, RunState.FINALIZING, RunState.PAUSED])
@pytest.mark.parametrize("new", [RunState.QUEUED, RunState.STARTING, RunState.RUNNING])
def test_a_requeue_is_a_legal_move(old: RunState, new: RunState) -> None:
    assert old == new or may_move(old, new)


def test_canceling_is_not_taken_back() -> None:
    assert not may_move(RunState.CANCEL_REQUESTED, RunState.RUNNING)
    assert may_move(RunState.CANCEL_REQUESTED, RunState.COMPLETED)


def test_states_print_as_their_words() -> None:
    assert f"{RunState.CANCEL_REQUESTED} {Reason.OUT_OF_MEMORY}" == "CancelRequested OutOfMemory"
    assert RunState("Running") is RunState.RUNNING and str(Reason.NONE) == ""


def test_the_page_on_runs_has_every_state_and_every_reason() -> None:
    section = (DOCS / "runs.md").read_text().partition("\n## States\n")[2].partition("\n## ")[0]
    said = set(re.findall(r"\w+", section))
    assert {word.value for word in (*RunState, *Reason) if word.value} <= said
