"""Curves as a line of text, long ones thinned, and what is new read as it comes."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.metrics.growing import Growing
from hpcrun.metrics.reading import file_of, parse_line, parse_lines
from hpcrun.metrics.series import Series, gather, number, primary, summary
from hpcrun.metrics.sparkline import BLOCKS, GAP, PLAIN, sparkline
from hpcrun.metrics.thinning import stretches_of, thin

NUMBERS = st.lists(st.floats() | st.sampled_from([0.0, -0.0, 1e308, -1e308, math.nan, math.inf, -math.inf]))


def test_a_curve_goes_up() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BLOCKS
    assert sparkline([7, 0], levels=PLAIN) == "#_"
    assert sparkline(list(range(1000)), 8) == BLOCKS


def test_a_value_that_does_not_change_stands_in_the_middle() -> None:
    assert sparkline([5.0] * 3) == BLOCKS[3] * 3
    assert sparkline([]) == ""


def test_what_is_no_number_is_a_gap_and_what_is_infinite_an_edge() -> None:
    assert sparkline([0, math.nan, 1, math.inf, -math.inf]) == f"▁{GAP}██▁"
    assert sparkline([math.nan] * 50, 5) == GAP * 5


def test_a_peak_is_seen_however_long_the_curve() -> None:
    values = [0.5 + 0.01 * (i % 7) for i in range(10_000)]
    values[4321], values[9000] = 9.0, -9.0
    drawn = sparkline(values, 20)
    assert drawn[8] == "█" and drawn[18] == "▁" and set(drawn[:8]) == {"▅"}


def test_a_logarithmic_curve_is_a_straight_line() -> None:
    assert sparkline([10.0**power for power in range(8)], log=True) == BLOCKS
    assert sparkline([0.0, -1.0, 1.0, 10.0], log=True) == "▁▁▁█"


def test_curves_with_the_same_bounds_can_be_compared() -> None:
    assert sparkline([1, 2], bounds=(0, 8)) == "▂▃"
    assert sparkline([1, 2], bounds=(math.nan, math.inf)) == "▁█"


@given(NUMBERS, st.integers(1, 40), st.booleans())
def test_a_curve_has_its_width_and_no_other_characters(values: list[float], width: int, log: bool) -> None:
    drawn = sparkline(values, width, log=log)
    assert len(drawn) == min(width, len(values))
    assert set(drawn) <= {*BLOCKS, GAP}


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.integers(1, 40))
def test_a_curve_that_only_rises_is_drawn_so(values: list[float], width: int) -> None:
    drawn = sparkline(sorted(values), width)
    assert [*drawn] == sorted(drawn)


@given(NUMBERS, st.integers(5, 60))
def test_thinned_curves_lose_no_extreme_and_no_gap(values: list[float], most: int) -> None:
    places = thin(values, most)
    kept = [values[place] for place in places]
    assert places == sorted(set(places)) and len(places) <= max(most, 0)
    finite = [value for value in values if math.isfinite(value)]
    left = [value for value in kept if math.isfinite(value)]
    assert (min(finite, default=0), max(finite, default=0)) == (min(left, default=0), max(left, default=0))
    assert (len(finite) < len(values)) == (len(left) < len(kept))
    if values:
        assert places[0] == 0 and places[-1] == len(values) - 1


@given(st.integers(0, 500), st.integers(1, 50))
def test_stretches_hold_every_place_once(count: int, parts: int) -> None:
    places = [place for first, last in stretches_of(count, parts) for place in range(first, last)]
    assert places == [*range(count)]


def test_a_million_points_are_thinned_in_no_time() -> None:
    values = [float(i % 1000) for i in range(1_000_000)]
    began = time.process_time()
    assert len(thin(values, 4000)) <= 4000
    assert len(sparkline(values, 60)) == 60
    assert time.process_time() - began < 5.0  # half a second, on a machine that does nothing else


def test_a_series_in_five_words() -> None:
    (series,) = gather(
        p for p in (parse_line(b'{"n": "x", "v": %s, "t": 1, "s": 3}' % v, 0) for v in WORDS) if p
    )
    known = summary(series)
    assert (known.count, known.last, known.step) == (5, "text", 3)
    assert (known.low, known.high) == (-2, math.inf)


WORDS = (b"true", b"NaN", b"-2", b"Infinity", b'"text"')


def test_lists_are_curves_of_their_values() -> None:
    series = Series("x", "list", 0, [[1, 2], [3], 4], [None] * 3, [0.0] * 3, [1] * 3)
    assert series.numbers() == [1, 2, 3, 4] and series.places() == [0, 1, 2, 3]
    assert summary(series).count == 4


def test_values_stand_at_their_steps_if_all_have_one() -> None:
    assert Series("x", "scalar", 0, [1, 2], [5, 7.5], [0.0] * 2, [1] * 2).places() == [5, 7.5]
    assert Series("x", "scalar", 0, [1, 2], [5, None], [0.0] * 2, [1] * 2).places() == [0, 1]


def test_an_attempt_that_went_back_begins_another_line() -> None:
    series = Series("x", "scalar", 0, [1, 2, 3, 4], [0, 1, 1, 2], [0.0] * 4, [1, 1, 2, 2])
    places, numbers = series.line()
    assert places == [0, 1, 1, 1, 2] and numbers[:2] + numbers[3:] == [1, 2, 3, 4] and math.isnan(numbers[2])
    went_on = Series("x", "scalar", 0, [1, 2], [0, 1], [0.0] * 2, [1, 2])
    assert went_on.line() == ([0, 1], [1, 2])


@pytest.mark.parametrize(
    ("value", "as_number"), [(True, 1.0), (3, 3.0), (10**400, math.inf), (-(10**400), -math.inf)]
)
def test_values_as_numbers(value: object, as_number: float) -> None:
    assert number(value) == as_number


def test_the_lowest_rank_speaks_for_all_unless_another_is_asked() -> None:
    series = [Series("x", "scalar", 2), Series("x", "scalar", 1), Series("y", "scalar", 2)]
    assert [(each.name, each.rank) for each in primary(series)] == [("x", 1), ("y", 2)]
    assert [(each.name, each.rank) for each in primary(series, 2)] == [("x", 2), ("y", 2)]


def test_each_look_reads_what_is_new(tmp_path: Path) -> None:
    path, line = file_of(tmp_path, 0), '{"n": "x", "v": %d, "s": %d, "t": 1}\n'
    growing = Growing(tmp_path)
    assert not growing.look() and growing.series == []
    path.write_text(line % (1, 1))
    assert growing.look() and not growing.look()
    with path.open("a") as file:
        file.write(line % (2, 2) + '{"n": "x", "v"')
    assert growing.look()
    (series,) = growing.series
    assert (series.values, series.steps, len(series.times), series.attempts) == ([1, 2], [1, 2], 2, [1, 1])
    path.write_text(line % (7, 7))  # written anew
    growing.look()
    assert [each.values for each in growing.series] == [[7]]


GOOD = b'{"n": "x", "v": 1, "t": 1}'


@pytest.mark.parametrize(
    "lines",
    [
        [GOOD] * 5000,
        [GOOD, b"", GOOD],
        [b'{"n": "x"', b'"v": 1, "t": 1}'],  # two lines that would be one point, were they one
        [b'{"n": "r", "t": 1, "k": "row", "v": {"a": 1}', GOOD, b'{"n": "t", "v": [{}', GOOD],  # torn
        [GOOD, b'{"n": "x", "v": 1, "t": 1' + b"0" * 400 + b"}", GOOD],
        [GOOD, b"{" * 100_000 + b"}" * 100_000, GOOD],
    ],
)
def test_lines_read_together_are_read_as_each_alone(lines: list[bytes]) -> None:
    alone = [point for point in (parse_line(line, 3) for line in lines) if point is not None]
    assert [*parse_lines(lines, 3)] == alone
