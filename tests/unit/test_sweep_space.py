"""Expressions with Azure ML's maths, and the points of a space."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hpcrun.hyperdrive import (
    Option,
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
from hpcrun.models.expressions import Expression
from hpcrun.sweeps.sampling import uniform_of
from hpcrun.sweeps.space import (
    continuous,
    draw,
    every_axis,
    index_of,
    key_of,
    multiple,
    point,
    position,
    quantile,
    size,
    space_of,
)

MANY = 4000


def drawn(expression: Expression, seed: int = 0, count: int = MANY) -> list[Any]:
    space = space_of({"x": expression})
    return [draw(space, lambda path, n=n: uniform_of(f"{seed} {path} {n}"))["x"] for n in range(count)]  # type: ignore[misc]


def furthest(values: list[float], share_below: Callable[[float], float]) -> float:
    """Kolmogorov's and Smirnov's distance between what was drawn and what should have been."""
    ordered, count = sorted(values), len(values)
    return max(
        max(abs(share_below(x) - n / count), abs(share_below(x) - (n + 1) / count))
        for n, x in enumerate(ordered)
    )


def bell(x: float, mu: float, sigma: float) -> float:
    return 0.5 * (1 + math.erf((x - mu) / (sigma * math.sqrt(2))))


@pytest.mark.parametrize(
    ("expression", "share_below"),
    [
        (uniform(-2, 3), lambda x: (x + 2) / 5),
        (loguniform(-7, -2), lambda x: (math.log(x) + 7) / 5),
        (normal(5, 2), lambda x: bell(x, 5, 2)),
        (lognormal(0, 1.5), lambda x: bell(math.log(x), 0, 1.5)),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_distribution_is_what_it_says(
    expression: Expression, share_below: Callable[[float], float], seed: int
) -> None:
    # 1.95 / sqrt(n) is passed by one of a thousand such samples.
    assert furthest(drawn(expression, seed), share_below) < 1.95 / math.sqrt(MANY)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (choice("a", "b", "c"), {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        (randint(4), {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}),
        # round() of 0 to 4: the first and the last have half of what the others have.
        (quniform(0, 4, 1), {0: 0.125, 1: 0.25, 2: 0.25, 3: 0.25, 4: 0.125}),
        (quniform(0, 1, 0.5), {0.0: 0.25, 0.5: 0.5, 1.0: 0.25}),
        # exp(0) to exp(2) rounds to 1 up to 1.5, to 2 up to 2.5 …
        (
            qloguniform(0, 2, 1),
            {
                1: math.log(1.5) / 2,
                2: math.log(2.5 / 1.5) / 2,
                3: math.log(3.5 / 2.5) / 2,
                4: math.log(4.5 / 3.5) / 2,
                5: math.log(5.5 / 4.5) / 2,
                6: math.log(6.5 / 5.5) / 2,
                7: 1 - math.log(6.5) / 2,
            },
        ),
    ],
)
def test_the_shares_of_values_that_can_be_counted(expression: Expression, expected: dict[Any, float]) -> None:
    values = drawn(expression)
    assert set(values) == set(expected)
    for value, share in expected.items():
        tolerance = 4 * math.sqrt(share * (1 - share) / MANY)
        assert abs(values.count(value) / MANY - share) < tolerance, value


@pytest.mark.parametrize(
    ("expression", "rounded"),
    [(qnormal(10, 3, 2), lambda x: bell(x, 10, 3)), (qlognormal(1, 1, 2), lambda x: bell(math.log(x), 1, 1))],
)
def test_rounded_bells(expression: Expression, rounded: Callable[[float], float]) -> None:
    values = drawn(expression)
    for edge in (1, 3, 7, 11, 13):
        below = sum(value < edge for value in values) / MANY
        assert abs(below - rounded(edge)) < 4 * math.sqrt(0.25 / MANY)


finite = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
shares = st.floats(0, 1)


@given(finite, finite, shares)
def test_uniform_stays_between_its_bounds(a: float, b: float, u: float) -> None:
    if a == b:
        return
    (axis,) = space_of({"x": uniform(min(a, b), max(a, b))})
    value = quantile(axis, u)
    assert min(a, b) <= value <= max(a, b)
    assert math.isclose(quantile(axis, position(axis, value)), value, rel_tol=1e-9, abs_tol=1e-9)


@given(st.floats(-20, 20), st.floats(0.001, 20), shares)
def test_loguniform_stays_between_its_bounds(low: float, width: float, u: float) -> None:
    (axis,) = space_of({"x": loguniform(low, low + width)})
    value = quantile(axis, u)
    assert math.exp(low) <= value <= math.exp(low + width)


@given(st.floats(-1e4, 1e4), st.decimals("0.001", "50", places=3))
def test_a_quantised_value_is_an_exact_multiple(x: float, q: Decimal) -> None:
    value = multiple(x, float(q))
    k = round(Fraction(value) / Fraction(q))
    assert value == float(k * q)
    assert abs(value - x) <= float(q) / 2 * (1 + 1e-9)


def test_multiples_are_those_of_decimal_numbers() -> None:
    assert [multiple(x, 0.1) for x in (0.31, 0.68, 0.72, -0.29)] == [0.3, 0.7, 0.7, -0.3]
    assert repr(multiple(14.9, 5)) == "15"
    assert repr(multiple(14.9, 5.0)) == "15.0"
    assert {repr(value) for value in drawn(quniform(0, 1, 0.1))} == {
        *("0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0")
    }


def test_the_edges_of_normal_distributions_are_finite() -> None:
    for expression in (normal(0, 1), lognormal(0, 70), qnormal(0, 1, 0.5), qlognormal(0, 2, 1)):
        (axis,) = space_of({"x": expression})
        for u in (0.0, 1.0, 2.0**-60, 1 - 2.0**-53):
            assert math.isfinite(quantile(axis, u))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: uniform(2, 1), "MIN must be less than MAX"),
        (lambda: uniform(1, 1), "MIN must be less than MAX"),
        (lambda: uniform(0, math.inf), "MAX must be a finite number"),
        (lambda: uniform(math.nan, 1), "MIN must be a finite number"),
        (lambda: uniform(-1e308, 1e308), "too far apart"),
        (lambda: quniform(0, 1, 0), "Q must be more than 0"),
        (lambda: quniform(0, 1, -1), "Q must be more than 0"),
        (lambda: quniform(0, 1, 1e-300), "Q is too small"),
        (lambda: normal(0, 0), "SIGMA must be more than 0"),
        (lambda: lognormal(0, -1), "SIGMA must be more than 0"),
        (lambda: lognormal(0, 100), "exponents of e"),
        (lambda: loguniform(1, 1000), "exponents of e"),
        (lambda: randint(0), "greater than or equal to 1"),
        (lambda: choice(), "has no options"),
        (lambda: choice([]), "has no options"),
        (lambda: choice(1, 1), "twice"),
        (lambda: choice(math.nan), "finite"),
        (lambda: Expression(uniform=[0, 1], randint=3), "exclude each other"),
        (lambda: Expression(), "expected one of choice, uniform"),
        (lambda: uniform(True, 2), "valid"),
        (lambda: Option("adam", {"lr": 3}), "Expression"),
    ],
)
def test_what_azure_takes_and_nobody_means(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make()


def test_the_ways_to_write_a_choice() -> None:
    assert choice(1, 2) == choice([1, 2]) == choice((1, 2)) == choice(range(1, 3))
    assert choice("ab").choice == ["ab"]
    assert choice(True, 1, 1.0, "1").choice == [True, 1, 1.0, "1"]
    assert choice(option for option in "ab").choice == ["a", "b"]


def test_numbers_of_numpy_are_numbers() -> None:
    class Float32:
        def item(self) -> float:
            return 0.5

    assert choice(Float32()).choice == [0.5]


OPTIMIZER = choice("sgd", Option("adam", {"beta1": choice(0.8, 0.9), "eps": choice(1, 2, 3)}), "lion")
CONDITIONAL = {"layers": choice(1, 2), "optimizer": OPTIMIZER}


def test_a_grid_multiplies_only_within_an_option() -> None:
    space = space_of(CONDITIONAL)
    assert size(space) == 2 * (1 + 2 * 3 + 1)
    points = [point(space, index) for index in range(16)]
    assert len({key_of(each) for each in points}) == 16
    assert points[0] == {"layers": 1, "optimizer": "sgd"}
    assert points[1] == {"layers": 1, "optimizer": "adam", "beta1": 0.8, "eps": 1}
    assert points[2] == {"layers": 1, "optimizer": "adam", "beta1": 0.8, "eps": 2}
    assert points[7] == {"layers": 1, "optimizer": "lion"}
    assert points[8] == {"layers": 2, "optimizer": "sgd"}
    for each in points:
        assert ("beta1" in each) == ("eps" in each) == (each["optimizer"] == "adam")


def test_every_point_knows_its_index() -> None:
    space = space_of({**CONDITIONAL, "n": randint(3), "q": quniform(0, 1, 0.25)})
    assert size(space) == 16 * 3 * 5
    for index in range(16 * 3 * 5):
        assert index_of(space, point(space, index)) == index
    first = point(space, 0)
    assert index_of(space, {**first, "layers": 3}) is None
    assert index_of(space, {**first, "layers": 1.0}) is None
    assert index_of(space, {**first, "more": 1}) is None
    assert index_of(space, {**first, "beta1": 0.8}) is None
    assert index_of(space, {**first, "n": 3}) is None
    assert index_of(space, {**first, "n": "1"}) is None
    assert index_of(space, {**first, "q": 0.3}) is None
    assert index_of(space, {name: value for name, value in first.items() if name != "n"}) is None


def test_a_draw_has_an_options_hyperparameters_only_where_it_is_chosen() -> None:
    space = space_of({"optimizer": choice("sgd", Option("adam", {"beta1": uniform(0.8, 0.99)}))})
    found = [draw(space, lambda path, n=n: uniform_of(f"{path} {n}")) for n in range(200)]  # type: ignore[misc]
    assert {each["optimizer"] for each in found} == {"sgd", "adam"}
    assert all(("beta1" in each) == (each["optimizer"] == "adam") for each in found)
    assert not continuous(space) and size(space) is None
    assert [axis.path for axis in every_axis(space)] == ["/optimizer", "/optimizer/1/beta1"]


def test_spaces_without_an_end() -> None:
    assert size(space_of({"a": choice(1), "b": uniform(0, 1)})) is None
    assert continuous(space_of({"a": choice(1), "b": normal(0, 1)}))
    assert not continuous(space_of({"b": qnormal(0, 1, 1)}))
