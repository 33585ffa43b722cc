"""What a sweep does next: how many trials it submits, when it gives up, how it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.states import Reason, RunState
from hpcrun.sweeps.driver import (
    Batch,
    Outcome,
    end_of,
    hopeless,
    joined,
    more,
    pieces,
    planned,
    running_at_most,
)

DONE, FAILED = Outcome(RunState.COMPLETED), Outcome(RunState.FAILED, "BadExit")
CANCELED, RUNNING = Outcome(RunState.CANCELED, "Canceled"), Outcome(RunState.RUNNING)
EARLY = Outcome(RunState.CANCELED, "StoppedEarly", early=True)
NOBODY = ("", "")


def test_without_a_limit_all_at_once() -> None:
    assert more(1000, [], set(), None, queued=True) == [Batch(0, 1000)]
    assert more(1000, [], set(), None, queued=False) == [Batch(0, 1000)]
    assert more(1000, [Batch(0, 1000)], set(), None, queued=False) == []


def test_where_arrays_keep_to_the_limit_the_queue_has_all() -> None:
    assert more(1000, [], set(), 30, queued=True) == [Batch(0, 1000, 30)]
    assert more(20, [], set(), 30, queued=True) == [Batch(0, 20)]


def test_in_waves_each_that_ends_makes_room() -> None:
    batches = more(10, [], set(), 3, queued=False)
    assert batches == [Batch(0, 3)]
    assert more(10, batches, set(), 3, queued=False) == []
    batches = joined(batches, more(10, batches, {1}, 3, queued=False))
    assert batches == [Batch(0, 4)], "one after the other, they are one"
    assert more(4, batches, {0, 1, 2, 3}, 3, queued=False) == []


def test_an_array_counts_as_what_it_may_run_at_once() -> None:
    batches = [Batch(0, 100, 5), Batch(100, 2)]
    assert running_at_most(batches, set()) == 7
    assert running_at_most(batches, set(range(97))) == 5
    assert running_at_most(batches, {*range(98), 100}) == 3
    assert joined(batches, [Batch(102, 4)]) == [Batch(0, 100, 5), Batch(100, 6)]
    assert joined(batches, [Batch(102, 9, 2)]) == [*batches, Batch(102, 9, 2)]


@given(
    total=st.integers(1, 60),
    most=st.none() | st.integers(1, 12),
    queued=st.booleans(),
    ends=st.lists(st.integers(0, 1000), max_size=80),
)
def test_never_too_many_and_none_left_out(
    total: int, most: int | None, queued: bool, ends: list[int]
) -> None:
    """Trials end in any order; what is planned never allows more at once than may run, and comes to all."""
    batches: list[Batch] = []
    ended: set[int] = set()
    for pick in [*ends, *range(total)]:
        batches = joined(batches, more(total, batches, ended, most, queued=queued))
        assert [number for batch in batches for number in batch.numbers] == list(range(planned(batches)))
        assert most is None or running_at_most(batches, ended) <= most
        assert [Batch.read(batch.entry) for batch in batches] == batches
        left = sorted(set(range(planned(batches))) - ended)
        if left:
            ended.add(left[pick % len(left)])
    while planned(batches) < total or len(ended) < total:
        batches = joined(batches, more(total, batches, ended, most, queued=queued))
        ended.update(range(planned(batches)))
    assert planned(batches) == total


@given(count=st.integers(1, 300), room=st.none() | st.integers(-3, 400), takes=st.integers(0, 400))
def test_a_limit_is_filled_to_the_last(count: int, room: int | None, takes: int) -> None:
    """In few tries, whatever was known of it before."""
    trying = pieces(count, room)
    there, tries, size = 0, 0, next(trying)
    while size:
        tries += 1
        taken = there + size <= takes
        there += size if taken else 0
        size = trying.send(taken)
    assert there == min(count, takes)
    assert tries <= 2 * count.bit_length() + 2


def test_where_it_is_full_one_is_tried() -> None:
    trying = pieces(40, 0)
    assert next(trying) == 1 and trying.send(False) == 0
    trying = pieces(40, 5)
    assert [next(trying), trying.send(True), trying.send(False)] == [5, 1, 0]


def test_giving_up() -> None:
    assert hopeless([FAILED] * 2, 3) == ""
    assert hopeless([FAILED] * 3 + [RUNNING] * 5, 3) == (
        "all of the first 3 trials to end have failed, all of them (BadExit)"
    )
    mixed = [Outcome(RunState.FAILED, "OutOfMemory"), FAILED, FAILED]
    assert hopeless(mixed, 3).endswith("have failed, 2 of them (BadExit)")
    assert hopeless([DONE] + [FAILED] * 9, 3) == ""
    assert hopeless([FAILED] * 99, None) == ""
    assert hopeless([CANCELED, FAILED, FAILED], 3) == "", "somebody is at it"


@pytest.mark.parametrize(
    ("outcomes", "stop", "expected"),
    [
        ([DONE, DONE], NOBODY, (RunState.COMPLETED, Reason.NONE, "")),
        ([DONE, EARLY, FAILED], NOBODY, (RunState.COMPLETED, Reason.NONE, "1 of its 3 trials failed")),
        ([EARLY], NOBODY, (RunState.COMPLETED, Reason.NONE, "")),
        ([FAILED] * 2, NOBODY, (RunState.FAILED, Reason.BAD_EXIT, "all of its 2 trials failed")),
        ([CANCELED, FAILED], NOBODY, (RunState.CANCELED, Reason.CANCELED, "")),
        ([DONE, CANCELED], ("user", ""), (RunState.CANCELED, Reason.CANCELED, "")),
        ([DONE, CANCELED], ("duration", "over"), (RunState.COMPLETED, Reason.NONE, "over")),
        ([DONE, FAILED], ("duration", "x"), (RunState.COMPLETED, Reason.NONE, "x; 1 of its 2 trials failed")),
        ([CANCELED], ("duration", "over"), (RunState.CANCELED, Reason.TIMEOUT, "over")),
        ([], ("duration", "over"), (RunState.CANCELED, Reason.TIMEOUT, "over")),
        ([], ("user", ""), (RunState.CANCELED, Reason.CANCELED, "")),
        ([FAILED, CANCELED], ("failures", "why"), (RunState.FAILED, Reason.BAD_EXIT, "why")),
        ([DONE], ("refused", "why"), (RunState.FAILED, Reason.REJECTED, "why")),
        ([], ("failures", "why"), (RunState.FAILED, Reason.NONE, "why")),
    ],
)  # fmt: skip
def test_how_it_ends(
    outcomes: list[Outcome], stop: tuple[str, str], expected: tuple[RunState, Reason, str]
) -> None:
    assert end_of(outcomes, stop) == expected
