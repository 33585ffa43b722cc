"""Bayesian sampling: what it learns, and that it keeps no state."""

from __future__ import annotations

import logging
import math
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hpcrun.errors import UsageError
from hpcrun.hyperdrive import (
    Option,
    PrimaryMetricGoal,
    choice,
    lognormal,
    loguniform,
    normal,
    qlognormal,
    qloguniform,
    qnormal,
    quniform,
    randint,
    uniform,
)
from hpcrun.sweeps.bayesian import STARTUP
from hpcrun.sweeps.results import TrialResult
from hpcrun.sweeps.sampling import propose, total
from tests.sweep_help import Space, sweep

EVERYTHING: Space = {
    "a": uniform(0, 1),
    "b": quniform(1, 10, 1),
    "c": loguniform(-7, -1),
    "d": qloguniform(0, 5, 2),
    "e": normal(0, 1),
    "f": qnormal(0, 10, 5),
    "g": lognormal(0, 1),
    "h": qlognormal(0, 1, 0.5),
    "i": randint(4),
    "j": choice(True, 1, 1.0, "1"),
    "k": choice("sgd", Option("adam", {"beta1": uniform(0.8, 0.99), "n": choice(1, 2)})),
}


def played(
    space: Space,
    value: Callable[[Mapping[str, Any]], float],
    sampling: str,
    seed: int,
    count: int = 40,
    wave: int = 1,
    goal: PrimaryMetricGoal = PrimaryMetricGoal.MINIMIZE,
) -> list[TrialResult]:
    """A whole sweep, wave by wave."""
    config, known = sweep(space, sampling, count, seed=seed, goal=goal), list[TrialResult]()
    for start in range(0, count, wave):
        asked = propose(config, "s", known, start, wave)
        known += [TrialResult(start + n, each, value(each)) for n, each in enumerate(asked)]
    return known


def best(known: list[TrialResult]) -> float:
    return min(trial.value for trial in known if trial.value is not None)


def bowl(parameters: Mapping[str, Any]) -> float:
    """A quadratic function; its least value, 0, is off the middle."""
    where = {"w": 0.3, "x": -0.7, "y": 0.55, "z": 0.1}
    return math.fsum((parameters[name] - at) ** 2 for name, at in where.items())


BOWL: Space = {name: uniform(-1, 1) for name in "wxyz"}


@pytest.mark.parametrize("wave", [1, 4])
def test_it_beats_random(wave: int) -> None:
    """40 trials, ten seeds: the best is on average at most 0.4 times what random sampling finds."""
    found = [best(played(BOWL, bowl, "bayesian", seed, wave=wave)) for seed in range(10)]
    by_chance = [best(played(BOWL, bowl, "random", seed)) for seed in range(10)]
    assert sum(found) <= 0.4 * sum(by_chance)
    assert sum(mine < other for mine, other in zip(found, by_chance, strict=True)) >= 9


def test_it_finds_the_larger_of_something_as_well() -> None:
    down = played(BOWL, bowl, "bayesian", 3)
    up = played(BOWL, lambda each: -bowl(each), "bayesian", 3, goal=PrimaryMetricGoal.MAXIMIZE)
    assert [each.parameters for each in up] == [each.parameters for each in down]


def test_it_learns_which_option_is_good() -> None:
    space: Space = {"k": choice("bad", Option("good", {"x": uniform(0, 1)}), "ugly")}
    known = played(space, lambda p: p["x"] if p["k"] == "good" else 5.0, "bayesian", 1)
    assert sum(each.parameters["k"] == "good" for each in known[20:]) >= 14
    assert best(known) < 0.05


def test_every_expression() -> None:
    known = played(EVERYTHING, lambda p: (p["a"] - 0.3) ** 2 + p["b"] + abs(p["e"]), "bayesian", 2, 30, 3)
    for each in known:
        p: Mapping[str, Any] = each.parameters
        assert 0 <= p["a"] <= 1 and p["b"] in range(1, 11) and isinstance(p["b"], int)
        assert math.exp(-7) <= p["c"] <= math.exp(-1) and p["d"] % 2 == 0 and isinstance(p["d"], int)
        assert p["f"] % 5 == 0 and p["g"] > 0 and p["h"] % 0.5 == 0 and p["i"] in range(4)
        assert ("beta1" in p) == ("n" in p) == (p["k"] == "adam")
    assert {repr(each.parameters["j"]) for each in known} == {"True", "1", "1.0", "'1'"}


def test_no_state_but_the_history() -> None:
    """Asked again, in whatever order the trials are told, it says the same."""
    config = sweep(EVERYTHING, "bayesian", 40, seed=5)
    known = played(EVERYTHING, lambda p: p["a"], "bayesian", 5, 20)
    asked = propose(config, "s", known, 20, 4)
    shuffled = known[:]
    random.Random(0).shuffle(shuffled)
    assert propose(config, "s", shuffled, 20, 4) == asked
    # Trials from the asked ones on do not change them: they are being submitted.
    more = [TrialResult(20 + n, each, None, "Queued") for n, each in enumerate(asked)]
    assert propose(config, "s", [*known, *more], 20, 4) == asked
    # One after the other is as good as all at once.
    one_by_one = list[TrialResult]()
    for n in range(4):
        (each,) = propose(config, "s", [*known, *one_by_one], 20 + n, 1)
        one_by_one.append(TrialResult(20 + n, each, None, "Running"))
    assert [each.parameters for each in one_by_one] == asked


def test_what_is_known_matters() -> None:
    config = sweep(BOWL, "bayesian", 40, seed=5)
    known = played(BOWL, bowl, "bayesian", 5, 20)
    otherwise = [TrialResult(each.number, each.parameters, -(each.value or 0)) for each in known]
    assert propose(config, "s", known, 20, 1) != propose(config, "s", otherwise, 20, 1)
    assert propose(config, "s", known, 20, 1) != propose(config, "s", known, 21, 1)


def test_trials_that_run_are_kept_away_from() -> None:
    """Eight asked for at once are not eight in one place."""
    config = sweep(BOWL, "bayesian", 40, seed=1)
    known = played(BOWL, bowl, "bayesian", 1, 24)
    at_once = propose(config, "s", known, 24, 8)
    assert len({repr(each) for each in at_once}) == 8
    alone = [propose(config, "s", known, 24 + n, 1)[0] for n in range(8)]
    assert alone[0] == at_once[0] and alone[1:] != at_once[1:]


@pytest.mark.parametrize("state", ["Failed", "Canceled", "Running", "Completed"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 0.5])
def test_whatever_became_of_a_trial(state: str, value: float | None) -> None:
    config = sweep(BOWL, "bayesian", 40, seed=1)
    known = played(BOWL, bowl, "bayesian", 1, STARTUP + 2)
    last = known[-1]
    known[-1] = TrialResult(last.number, last.parameters, value, state, reports=0 if value is None else 3)
    assert len(propose(config, "s", known, STARTUP + 2, 2)) == 2


def test_a_trial_that_was_stopped_counts_as_worse_than_one_that_completed() -> None:
    """Those with x above 0 were stopped with good values: it looks below."""
    space: Space = {"x": uniform(-1, 1)}
    known = [
        TrialResult(n, {"x": x}, 1.0 if x < 0 else 0.0, "Completed" if x < 0 else "Canceled", reports=1)
        for n, x in enumerate(k / 10 - 0.95 for k in range(20))
    ]
    config = sweep(space, "bayesian", 60, seed=1)
    asked = [propose(config, "s", known, 20 + n, 1)[0]["x"] for n in range(20)]
    assert sum(float(x) < 0 for x in asked) >= 14


def test_an_earlier_sweep_is_learned_from() -> None:
    """Its trials are told; those of another space are not."""
    config = sweep(BOWL, "bayesian", 5, seed=9)
    earlier = [
        TrialResult(-1 - each.number, each.parameters, each.value)
        for each in played(BOWL, bowl, "bayesian", 3, 40)
    ]
    strange = [TrialResult(-100, {"w": "x"}, 0.0), TrialResult(-101, {"other": 1}, 0.0)]
    assert total(config, earlier) == 5
    taught = propose(config, "s", earlier, 0, 5)
    assert propose(config, "s", [*earlier, *strange], 0, 5) == taught
    untaught = propose(config, "s", [], 0, 5)
    assert sum(map(bowl, taught)) < 0.5 * sum(map(bowl, untaught))


def test_the_first_trials_are_sobols() -> None:
    config, sobol = sweep(BOWL, "bayesian", 40, seed=4), sweep(BOWL, "sobol", 40, seed=4)
    assert propose(config, "s", [], 0, 8) == propose(sobol, "s", [], 0, 8)


def test_it_says_nothing_and_leaves_optunas_words_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    import optuna

    optuna.logging.set_verbosity(logging.DEBUG)
    try:
        played(BOWL, bowl, "bayesian", 1, 14)
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(logging.INFO)
    assert capfd.readouterr() == ("", "")


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"hpcrun-toolkit\[sweeps\]"):
        propose(sweep(BOWL, "bayesian", 5), "s", [], 0, 1)
    assert len(propose(sweep(BOWL, "sobol", 5), "s", [], 0, 5)) == 5


def test_optuna_is_loaded_for_bayesian_sampling_alone() -> None:
    code = "import sys, hpcrun.hyperdrive, hpcrun.sweeps.sampling; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
