"""When the scheduler is asked next: polite, growing, scattered, and quick near the end."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hpcrun.engine.pace import ASK, ASK_AT_END, ASK_MOST, Pace


def questions(pace: Pace, count: int, *, trouble: bool = False, chance: float = 0.5) -> list[float]:
    """The pauses before each of the next questions, each asked when it is due and answered at once."""
    times = [pace.next_ask]
    for _ in range(count):
        pace = pace.asked(times[-1], trouble=trouble, chance=chance)
        times.append(pace.next_ask)
    return [after - before for before, after in itertools.pairwise(times)]


def test_at_once_then_15_seconds_growing_to_60() -> None:
    assert Pace().next_ask == 0.0
    pauses = questions(Pace(), 10)
    assert pauses[0] == ASK == 15.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == ASK_MOST == 60.0


def test_a_scheduler_in_trouble_is_asked_less_soon_and_not_ever_less() -> None:
    """Fault 9: a bounded backoff, from the pause of a minute's waiting or of the hurry at an end alike."""
    for pace in (Pace(), Pace(0.0, ASK_AT_END, "end")):
        pauses = questions(pace, 5, trouble=True)
        assert pauses == [15.0, 30.0, 60.0, 60.0, 60.0]


@given(st.floats(0, 1), st.booleans())
def test_a_fifth_is_left_to_chance(chance: float, trouble: bool) -> None:
    """Fault 9: those who waited for the same dead controller do not all come back in one second."""
    for usual, pause in zip(
        questions(Pace(), 8, trouble=trouble),
        questions(Pace(), 8, trouble=trouble, chance=chance),
        strict=True,
    ):
        assert 0.799 * usual <= pause <= 1.201 * usual
    assert questions(Pace(), 1, chance=0.0) < questions(Pace(), 1, chance=1.0)


def test_at_once_when_the_job_says_that_it_is_at_its_end_and_soon_after() -> None:
    pace = Pace().asked(0.0).seen(3.0, at_end=True)
    assert pace.next_ask == 3.0
    pauses = questions(pace, 15)
    assert pauses[0] == ASK_AT_END and pauses[-1] > ASK, "an end that does not come is waited for politely"
    asked = pace.asked(3.0)
    assert asked.seen(3.1, at_end=True) == asked, "only once"


def test_when_the_time_limit_is_over() -> None:
    pace = Pace(100.0, 60.0)
    assert pace.seen(50.0, at_end=False, left=51.0) == pace, "it will be asked before"
    early = pace.seen(50.0, at_end=False, left=20.0)
    assert (early.next_ask, early.pause) == (70.0, ASK_AT_END)
    assert early.seen(50.05, at_end=False, left=19.95) == early
    assert pace.seen(50.0, at_end=False, left=-1000.0).next_ask == 50.0, "it was over before"
    assert early.seen(60.0, at_end=True, left=10.0).next_ask == 60.0, "it ended sooner"


def test_a_requeued_job_has_another_end() -> None:
    pace = Pace(100.0, 60.0).seen(50.0, at_end=True, left=20.0).asked(50.0)
    again = pace.seen(60.0, at_end=False).asked(60.0)
    assert again.seen(61.0, at_end=True).next_ask == 61.0
    assert Pace().asked(0.0).seen(0.0, at_end=False).next_ask == 15.0
