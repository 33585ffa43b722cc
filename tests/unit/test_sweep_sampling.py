"""Which hyperparameters each trial gets: the same however often and however many are asked for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.hyperdrive import Option, choice, normal, qlognormal, qnormal, quniform, randint, uniform
from hpcrun.models.sweep import MOST_DIMENSIONS
from hpcrun.sweeps.results import TrialResult
from hpcrun.sweeps.sampling import propose, total
from hpcrun.sweeps.sobol import coordinate, dimensions
from hpcrun.sweeps.space import key_of
from tests.sweep_help import sweep, trials

MIXED = {
    "lr": uniform(0, 1),
    "batch": choice(16, 32, 64),
    "optimizer": choice("sgd", Option("adam", {"beta1": uniform(0.8, 0.99)})),
}
RANDOM = [{"lr": 0.7887979740978287, "n": 40, "b": "x"}, {"lr": 0.9355060165373424, "n": 52, "b": "z"}]
SOBOL = [{"lr": 0.5198584437603131, "n": 16, "b": "z"}, {"lr": 0.46906184416729957, "n": 53, "b": "x"}]
COUNTABLE = {"batch": choice(16, 32, 64), "n": randint(5), "q": quniform(0, 1, 0.25)}


@pytest.mark.parametrize("sampling", ["random", "sobol", "grid"])
@pytest.mark.parametrize("space", [MIXED, COUNTABLE])
def test_waves_do_not_matter(sampling: str, space: dict[str, object]) -> None:
    if sampling == "grid":
        space = {"a": choice(range(6)), "b": choice("x", Option("y", {"c": choice(1, 2, 3)}))}
    config = sweep(space, sampling, None if sampling == "grid" else 24, seed=7)  # type: ignore[arg-type]
    whole = trials(config, 24)
    assert len(whole) == 24
    for wave in (1, 5, 24):
        got = [each for start in range(0, 24, wave) for each in trials(config, wave, start)]
        assert got == whole
    late = [TrialResult(n, each, 0.5) for n, each in enumerate(whole[:9])]
    assert trials(config, 4, 9, late) == whole[9:13]
    assert trials(config, 100, 20) == whole[20:]


@pytest.mark.parametrize("sampling", ["random", "sobol"])
def test_seeds(sampling: str) -> None:
    same, other = sweep(MIXED, sampling, seed=3), sweep(MIXED, sampling, seed=4)
    assert trials(same, 20) == trials(sweep(MIXED, sampling, seed=3), 20)
    assert not {repr(each) for each in trials(same, 20)} & {repr(each) for each in trials(other, 20)}
    assert propose(same, "a", [], 0, 5) == propose(same, "b", [], 0, 5)
    unseeded = sweep(MIXED, sampling)
    assert propose(unseeded, "a", [], 0, 5) == propose(unseeded, "a", [], 0, 5)
    assert propose(unseeded, "a", [], 0, 5) != propose(unseeded, "b", [], 0, 5)


def test_what_a_hyperparameter_gets_does_not_depend_on_the_others() -> None:
    alone = trials(sweep({"lr": uniform(0, 1)}, seed=1), 20)
    beside = trials(sweep({"first": normal(0, 1), "lr": uniform(0, 1)}, seed=1), 20)
    assert [each["lr"] for each in alone] == [each["lr"] for each in beside]


def test_these_very_numbers() -> None:
    """A sweep that was begun by one release goes on in the next."""
    config = sweep({"lr": uniform(0, 1), "n": randint(100), "b": choice("x", "y", "z")}, seed=1)
    assert trials(config, 2) == RANDOM
    assert trials(sweep(config.space, "sobol", seed=1), 2) == SOBOL


@pytest.mark.parametrize("sampling", ["random", "sobol"])
def test_a_space_with_an_end_is_gone_through_once(sampling: str) -> None:
    config = sweep(COUNTABLE, sampling, 1000, seed=2)
    assert total(config) == 3 * 5 * 5
    found = trials(config, 1000)
    assert len({key_of(each) for each in found}) == len(found) == 75


def test_values_that_are_nearly_never_drawn_come_too() -> None:
    """Of a million draws one is 2000."""
    config = sweep({"q": quniform(0, 1500.002, 1000)}, most=9, seed=0)
    assert total(config) == 3
    assert sorted(each["q"] for each in trials(config, 9)) == [0, 1000, 2000]
    assert trials(config, 1, 2) == [{"q": 2000}]


def test_where_there_is_next_to_nothing_else_a_draw_comes_again() -> None:
    config = sweep({"q": qnormal(0, 1, 1000)}, most=5)
    assert trials(config, 5) == [{"q": 0}] * 5
    assert trials(config, 2, 3) == [{"q": 0}] * 2


def test_draws_without_an_end_differ() -> None:
    config = sweep({"q": qlognormal(0, 2, 1)}, most=30, seed=5)
    found = [each["q"] for each in trials(config, 30)]
    assert len(set(found)) == 30


@pytest.mark.parametrize("sampling", ["random", "sobol", "grid"])
def test_what_an_earlier_sweep_had_does_not_come_again(sampling: str) -> None:
    space = {"a": choice(range(4)), "b": choice("x", "y")}
    config = sweep(
        space, sampling, None if sampling == "grid" else 8, **({} if sampling == "grid" else {"seed": 1})
    )
    earlier = [
        TrialResult(-1, {"a": 0, "b": "x"}),
        TrialResult(-2, {"a": 3, "b": "y"}),
        TrialResult(-3, {"a": 9, "b": "y"}),
    ]
    assert total(config) == 8 and total(config, earlier) == 6
    found = trials(config, 100, known=earlier)
    had = {(each["a"], each["b"]) for each in found}
    assert had == set(itertools.product(range(4), "xy")) - {(0, "x"), (3, "y")}
    assert len(found) == 6
    assert trials(config, 2, 3, earlier) == found[3:5]


def test_the_same_seed_again_does_not_repeat_an_earlier_sweep() -> None:
    first = sweep(MIXED, seed=1)
    earlier = [TrialResult(-1 - n, each) for n, each in enumerate(trials(first, 20))]
    again = trials(first, 20, known=earlier)
    assert len(again) == 20
    assert not {key_of(each.parameters) for each in earlier} & {key_of(each) for each in again}


def test_a_grid_is_in_order_and_cut_at_max_total_runs() -> None:
    space = {"a": choice(1, 2), "b": choice("x", "y", "z")}
    assert [tuple(each.values()) for each in trials(sweep(space, "grid", None), 100)] == [
        *((1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z"))
    ]
    cut = sweep(space, "grid", 4)
    assert total(cut) == 4 and trials(cut, 100) == trials(sweep(space, "grid", None), 4)
    assert trials(cut, 5, 4) == []


def test_a_large_grid_is_not_listed() -> None:
    config = sweep({name: choice(range(1000)) for name in "abcdef"}, "grid", 1_000_000)
    assert trials(config, 1, 999_999) == [{"a": 0, "b": 0, "c": 0, "d": 0, "e": 999, "f": 999}]


@given(st.integers(0, 2**20), st.integers(0, MOST_DIMENSIONS - 1), st.text(max_size=5))
def test_a_coordinate_is_between_0_and_1(n: int, dimension: int, seed: str) -> None:
    assert 0 < coordinate(n, dimension, seed) < 1


@settings(max_examples=40)
@given(st.integers(0, MOST_DIMENSIONS - 1), st.integers(0, 50), st.integers(0, 7), st.text(max_size=3))
def test_sobol_has_one_point_in_each_interval(dimension: int, block: int, k: int, seed: str) -> None:
    """Any 2**k points from a multiple of 2**k on, in 2**k equal intervals of any axis."""
    count = 2**k
    where = [int(coordinate(n, dimension, seed) * count) for n in range(block * count, (block + 1) * count)]
    assert sorted(where) == list(range(count))


def test_sobols_first_two_axes_fill_all_boxes() -> None:
    """A (0, m, 2)-net: one of 64 points in each box of area 1/64, whatever its shape."""
    points = [(coordinate(n, 0, "s"), coordinate(n, 1, "s")) for n in range(64)]
    for wide in (1, 2, 4, 8, 16, 32, 64):
        boxes = {(int(x * wide), int(y * (64 // wide))) for x, y in points}
        assert len(boxes) == 64


def test_sobol_is_evener_than_chance_in_many_dimensions() -> None:
    """The mean of a product over 8 axes, whose integral is 1, by 512 points."""
    space = {f"x{n}": uniform(0, 1) for n in range(8)}

    def off(sampling: str, seed: int) -> float:
        found = trials(sweep(space, sampling, 512, seed=seed), 512)
        whole = 0.0
        for each in found:
            product = 1.0
            for value in each.values():
                product *= 1 + 0.5 * (value - 0.5)
            whole += product
        return abs(whole / len(found) - 1)

    assert sum(off("sobol", seed) for seed in range(5)) < 0.2 * sum(off("random", seed) for seed in range(5))


def test_as_many_dimensions_as_are_promised() -> None:
    assert dimensions() == MOST_DIMENSIONS
    space = {f"x{n}": uniform(0, 1) for n in range(MOST_DIMENSIONS)}
    assert len(trials(sweep(space, "sobol"), 4)[0]) == MOST_DIMENSIONS
    with pytest.raises(ValueError, match="64 hyperparameters at most, and these are 65"):
        sweep({**space, "more": uniform(0, 1)}, "sobol")
