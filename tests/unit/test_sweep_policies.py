"""Policies: by hand, and what holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.hyperdrive import (
    AshaPolicy,
    BanditPolicy,
    MedianStoppingPolicy,
    NoTerminationPolicy,
    PrimaryMetricGoal,
    TruncationSelectionPolicy,
)
from hpcrun.models.policies import Policy
from hpcrun.sweeps.policies import best_of, due, judge, rungs

NAN, INF = math.nan, math.inf
UP, DOWN = PrimaryMetricGoal.MAXIMIZE, PrimaryMetricGoal.MINIMIZE


def judged(
    policy: Policy,
    goal: PrimaryMetricGoal,
    *histories: Sequence[float],
    running: set[int] | None = None,
    before: Mapping[int, int] | None = None,
) -> set[int]:
    numbered = dict(enumerate(histories))
    return judge(policy, goal, numbered, set(numbered) if running is None else running, before or {})


FACTOR = BanditPolicy(slack_factor=0.2)
AMOUNT = BanditPolicy(slack_amount=0.2)


@pytest.mark.parametrize(
    ("policy", "goal", "histories", "stopped"),
    [
        # 0.8 / 1.2 = 0.667: Azure ML's own example, Y + 0.2 Y beside 0.8.
        (FACTOR, UP, [[0.8], [0.67], [0.66]], {2}),
        (FACTOR, DOWN, [[0.5], [0.6], [0.61]], {2}),
        (AMOUNT, UP, [[0.8], [0.61], [0.59]], {2}),
        (AMOUNT, DOWN, [[0.5], [0.69], [0.71]], {2}),
        # Of negative numbers the best is nearer to 0: -10 may become -12, and not -8.3.
        (FACTOR, UP, [[-10], [-11.9], [-12.1]], {2}),
        (FACTOR, DOWN, [[-10], [-8.4], [-8.3]], {2}),
        (AMOUNT, UP, [[-1], [-1.1], [-1.3]], {2}),
        (AMOUNT, DOWN, [[-1], [-0.9], [-0.7]], {2}),
        # On both sides of 0, and at 0.
        (FACTOR, UP, [[1], [0], [-1]], {1, 2}),
        (FACTOR, UP, [[0], [-0.001]], {1}),
        (FACTOR, DOWN, [[-1], [0], [1]], {1, 2}),
        (BanditPolicy(slack_factor=0), UP, [[3], [3], [2.9]], {2}),
        (BanditPolicy(slack_amount=0), DOWN, [[3], [3], [3.1]], {2}),
        # The best so far counts, and not the last.
        (FACTOR, UP, [[0.8, 0.1], [0.1, 0.7], [0.1, 0.2]], {2}),
        # A young trial is seen beside what the others were at its age.
        (FACTOR, UP, [[0.1, 0.2, 0.9], [0.1]], set()),
        (FACTOR, UP, [[0.1, 0.2, 0.9], [0.05]], {1}),
        # No number is no best; a trial with nothing else is worst. Without reports it is left alone.
        (FACTOR, UP, [[NAN, 0.8], [NAN, NAN], [0.1, 0.75]], {1}),
        (FACTOR, UP, [[0.8], []], set()),
        (FACTOR, UP, [[NAN], [NAN]], set()),
        (FACTOR, DOWN, [[INF], [1.0]], {0}),
        (FACTOR, UP, [[INF], [1.0]], {1}),
        (FACTOR, UP, [[-INF], [-INF]], set()),
    ],
)
def test_bandit(
    policy: Policy, goal: PrimaryMetricGoal, histories: list[list[float]], stopped: set[int]
) -> None:
    assert judged(policy, goal, *histories) == stopped


def test_a_bandits_slack_that_just_suffices() -> None:
    assert judged(BanditPolicy(slack_factor=1), UP, [1.0], [0.5]) == set()
    assert judged(BanditPolicy(slack_factor=1), DOWN, [1.0], [2.0]) == set()
    assert judged(BanditPolicy(slack_amount=0.5), UP, [1.0], [0.5]) == set()


MEDIAN = MedianStoppingPolicy()


@pytest.mark.parametrize(
    ("goal", "histories", "stopped"),
    [
        # Averages 1, 2, 3: their median is 2, and a best of 1 is worse.
        (UP, [[1], [2], [3]], {0}),
        (DOWN, [[1], [2], [3]], {2}),
        # Averages 2.5, 2, 3 have the median 2.5: the second's best, 3, is not worse.
        (UP, [[2, 3], [1, 3], [3, 3]], set()),
        # Averages 1.5, 4, 5: the first's best is 2.
        (UP, [[1, 2], [4, 4], [5, 5]], {0}),
        # Four: the median lies between 2 and 3.
        (UP, [[1], [2], [3], [4]], {0, 1}),
        # Alone, a trial is never worse than its own average.
        (UP, [[3, 2, 1]], set()),
        # Trial 1 has one interval: there it is seen beside averages of one interval, 5 and 1.
        (UP, [[5, 50, 500], [1]], {1}),
        (UP, [[1, 50, 500], [1]], set()),
        (UP, [[NAN, 4], [NAN, NAN], [1, 5]], {1}),
        (UP, [[], []], set()),
        (DOWN, [[INF, 1], [2, 2]], set()),
        (DOWN, [[INF, -INF], [2, 2], [3, 3]], {2}),
    ],
)
def test_median_stopping(goal: PrimaryMetricGoal, histories: list[list[float]], stopped: set[int]) -> None:
    assert judged(MEDIAN, goal, *histories) == stopped


def test_the_median_is_of_trials_that_came_so_far_or_have_ended() -> None:
    histories = [[1.0, 1.0], [2.0, 2.0], [9.0]]
    # The third still runs: its average over two intervals is not known yet. 1 is below the median of 1 and 2.
    assert judged(MEDIAN, UP, *histories, before={2: 1}) == {0}
    # It ended: 9 is its average, and the median is that of 1, 2, 2.5 and 9.
    assert judged(MEDIAN, UP, *histories, [2.5, 2.5], running={0, 1, 3}) == {0, 1}


def test_an_infinite_average() -> None:
    assert judged(MEDIAN, DOWN, [INF, 3.0], [INF, 2.0], [1.0, 1.0]) == set()
    assert judged(MEDIAN, UP, [-INF, 1.0], [5.0, 5.0], [4.0, 4.0]) == {0}


def cut(percentage: int, **more: Any) -> TruncationSelectionPolicy:
    return TruncationSelectionPolicy(truncation_percentage=percentage, **more)


@pytest.mark.parametrize(
    ("policy", "goal", "histories", "stopped"),
    [
        (cut(20), UP, [[1], [2], [3], [4], [5]], {0}),
        (cut(40), UP, [[1], [2], [3], [4], [5]], {0, 1}),
        (cut(40), DOWN, [[1], [2], [3], [4], [5]], {3, 4}),
        # A fifth of four is less than one.
        (cut(20), UP, [[1], [2], [3], [4]], set()),
        (cut(99), UP, [[1], [2], [3], [4]], {0, 1, 2}),
        # Of equals that do not all fit below the cut, none goes.
        (cut(20), UP, [[1], [1], [3], [4], [5]], set()),
        (cut(40), UP, [[1], [1], [3], [4], [5]], {0, 1}),
        (cut(40), UP, [[2], [1], [2], [4], [5]], {1}),
        (cut(50), UP, [[1], [1]], set()),
        # At interval 1 only first reports count, those of older trials too.
        (cut(50), UP, [[5, 1], [1, 9], [3, 8], [4]], set()),
        (cut(50), UP, [[5, 1], [1, 9], [3, 8], [2]], {3}),
        (cut(50), UP, [[NAN], [1]], {0}),
        (cut(50), UP, [[], [1]], set()),
    ],
)
def test_truncation(
    policy: Policy, goal: PrimaryMetricGoal, histories: list[list[float]], stopped: set[int]
) -> None:
    old = {n: len(each) for n, each in enumerate(histories) if len(each) > 1}
    assert judged(policy, goal, *histories, before=old) == stopped


def test_finished_trials_count_unless_they_are_excluded() -> None:
    histories, running = [[1.0], [2.0], [3.0], [4.0], [5.0]], {1, 2, 3, 4}
    assert judged(cut(20), UP, *histories, running=running) == set()
    assert judged(cut(25, exclude_finished_jobs=True), UP, *histories, running=running) == {1}


ASHA = AshaPolicy(reduction_factor=2, min_resource=1)


@pytest.mark.parametrize(
    ("policy", "goal", "histories", "stopped"),
    [
        (ASHA, UP, [[1], [2], [3], [4]], {0, 1}),
        (ASHA, DOWN, [[1], [2], [3], [4]], {2, 3}),
        # The first at a rung goes on; of two the better; of three one.
        (ASHA, UP, [[1]], set()),
        (ASHA, UP, [[1], [2]], {0}),
        (ASHA, UP, [[1], [2], [3]], {0, 1}),
        (AshaPolicy(reduction_factor=3), UP, [[1], [2]], {0}),
        (ASHA, UP, [[1], [1], [1], [1]], set()),
        # Rungs at 1, 2, 4: three reports are judged by the first two.
        (ASHA, UP, [[1, 1, 99], [2, 2, 2], [3, 3, 3]], {1}),
        (AshaPolicy(reduction_factor=2, min_resource=3), UP, [[1, 1], [2, 2]], set()),
        (AshaPolicy(reduction_factor=2, min_resource=3), UP, [[1, 1, 1], [2, 2, 2]], {0}),
        # At max_resource a trial is done.
        (AshaPolicy(reduction_factor=2, max_resource=2), UP, [[3, 1], [2, 2], [1, 3]], {1}),
        (ASHA, UP, [[NAN], [1], [0.5], [2]], {0, 2}),
    ],
)
def test_asha(
    policy: Policy, goal: PrimaryMetricGoal, histories: list[list[float]], stopped: set[int]
) -> None:
    assert judged(policy, goal, *histories) == stopped


def test_a_trial_comes_to_a_rung_after_others() -> None:
    """What went on is not judged at the same rung again, however good those are that come later."""
    assert judged(ASHA, UP, [1.0]) == set()
    assert judged(ASHA, UP, [1.0], [2.0], [3.0], before={0: 1}) == {1}
    assert judged(ASHA, UP, [1.0, 1.0], [2.0], [3.0, 3.0], running={0, 2}, before={0: 1, 2: 1}) == {0}


def test_rungs() -> None:
    policy = AshaPolicy(reduction_factor=3, min_resource=2, max_resource=50)
    assert [rungs(policy, n) for n in (1, 2, 17, 18, 53, 54, 999)] == [
        *([], [2], [2, 6], [2, 6, 18], [2, 6, 18], [2, 6, 18], [2, 6, 18])
    ]


EVERY = [FACTOR, AMOUNT, MEDIAN, cut(30), ASHA, NoTerminationPolicy()]


def test_no_termination_stops_nothing() -> None:
    assert judged(NoTerminationPolicy(), UP, [1], [99], [-99]) == set()


@pytest.mark.parametrize(
    ("every", "delay", "reported", "judged_at", "at"),
    [
        (1, 0, 0, 0, None),
        (1, 0, 1, 0, 1),
        (1, 0, 3, 2, 3),
        (1, 0, 3, 3, None),
        (5, 0, 4, 0, None),
        (5, 0, 5, 0, 5),
        (5, 0, 14, 5, 10),
        (5, 0, 9, 5, None),
        # The multiples of 5 that are at least 12.
        (5, 12, 14, 0, None),
        (5, 12, 15, 0, 15),
        (100, 200, 199, 0, None),
        (100, 200, 200, 0, 200),
        (1, 5, 5, 0, 5),
    ],
)
def test_when_a_policy_is_applied(
    every: int, delay: int, reported: int, judged_at: int, at: int | None
) -> None:
    for policy in (
        BanditPolicy(slack_factor=0.1, evaluation_interval=every, delay_evaluation=delay),
        MedianStoppingPolicy(evaluation_interval=every, delay_evaluation=delay),
        cut(10, evaluation_interval=every, delay_evaluation=delay),
    ):
        assert due(policy, reported, judged_at) == at


def test_an_interval_counts_when_it_is_judged_late() -> None:
    """Ticks may be days late: what was reported after the interval does not help, nor does it harm others."""
    policy = BanditPolicy(slack_factor=0.1, evaluation_interval=2)
    assert judged(policy, UP, [1, 1, 1], [0.1, 0.1, 0.99]) == {1}
    assert judged(policy, UP, [1, 1, 1], [0.1, 0.1, 0.99], before={1: 2}) == set()
    # But the best of all is never stopped.
    assert judged(policy, UP, [1, 1, 1], [0.1, 0.1, 1.01]) == set()


numbers = st.floats(-100, 100) | st.sampled_from([NAN, INF, -INF, 0.0])
histories_of = st.dictionaries(st.integers(0, 30), st.lists(numbers, max_size=9), max_size=12)
policies = st.one_of(
    st.sampled_from(EVERY),
    st.builds(
        BanditPolicy,
        slack_factor=st.floats(0, 5),
        evaluation_interval=st.integers(1, 4),
        delay_evaluation=st.integers(0, 5),
    ),
    st.builds(TruncationSelectionPolicy, truncation_percentage=st.integers(1, 99)),
    st.builds(AshaPolicy, reduction_factor=st.integers(2, 5), min_resource=st.integers(1, 3)),
)
goals = st.sampled_from([UP, DOWN])


@given(policies, goals, histories_of, st.randoms(use_true_random=False))
def test_what_holds_for_every_policy(
    policy: Policy, goal: PrimaryMetricGoal, histories: dict[int, list[float]], random: Any
) -> None:
    running = {number for number in histories if random.random() < 0.8}
    before = {number: random.randint(0, len(values)) for number, values in histories.items()}
    stopped = judge(policy, goal, histories, running, before)
    assert stopped <= running
    # It is a function.
    assert judge(policy, goal, dict(reversed(histories.items())), running, before) == stopped
    # Never the best, never one that has told nothing, never one that has no interval to be judged at.
    whole = best_of(goal, [value for values in histories.values() for value in values])
    for number in stopped:
        assert histories[number] and best_of(goal, histories[number]) != whole
        assert due(policy, len(histories[number]), before[number]) is not None
    # Once it was judged, asking again stops nothing.
    assert judge(policy, goal, histories, running, {n: len(v) for n, v in histories.items()}) == set()
    # Who has which number does not matter.
    names = list(histories)
    random.shuffle(names)
    other = dict(zip(histories, (name + 100 for name in names), strict=True))
    moved = judge(
        policy,
        goal,
        {other[number]: values for number, values in histories.items()},
        {other[number] for number in running},
        {other[number]: at for number, at in before.items()},
    )
    assert moved == {other[number] for number in stopped}
    # Less of something is more of its opposite.
    opposite = DOWN if goal is UP else UP
    mirrored = {number: [-value for value in values] for number, values in histories.items()}
    assert judge(policy, opposite, mirrored, running, before) == stopped


@given(policies, goals, histories_of)
def test_doing_better_never_gets_a_trial_stopped(
    policy: Policy, goal: PrimaryMetricGoal, histories: dict[int, list[float]]
) -> None:
    """Of the median it is true only as far as a trial's own average is left out of account."""
    if isinstance(policy, MedianStoppingPolicy):
        return
    more = 7.0 if goal is UP else -7.0
    for number, values in histories.items():
        if number in judge(policy, goal, histories, set(histories), {}):
            continue
        better = {**histories, number: [value + more for value in values]}
        assert number not in judge(policy, goal, better, set(histories), {})


@pytest.mark.parametrize(("goal", "best"), [(UP, 3.0), (DOWN, -1.0)])
def test_the_best(goal: PrimaryMetricGoal, best: float) -> None:
    assert best_of(goal, [NAN, 3.0, -1.0]) == best_of(goal.value, [3.0, -1.0, NAN]) == best
    assert best_of(goal, []) is best_of(goal, [NAN]) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BanditPolicy(), "slack_factor"),
        (lambda: BanditPolicy(slack_factor=0.1, slack_amount=0.1), "exclude each other"),
        (lambda: BanditPolicy(slack_factor=-0.1), "at least 0"),
        (lambda: BanditPolicy(slack_amount=NAN), "at least 0"),
        (lambda: BanditPolicy(slack_factor=0.1, evaluation_interval=0), "greater than or equal to 1"),
        (lambda: MedianStoppingPolicy(delay_evaluation=-1), "greater than or equal to 0"),
        (lambda: cut(0), "greater than or equal to 1"),
        (lambda: cut(100), "less than or equal to 99"),
        (lambda: AshaPolicy(reduction_factor=1), "greater than or equal to 2"),
    ],
)
def test_what_is_no_policy(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
