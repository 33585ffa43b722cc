"""Times and amounts of memory: what people write, what Slurm reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.units import Duration, Memory, human_bytes, human_seconds

TEN_YEARS = 365 * 86400 * 10


@given(st.integers(1, TEN_YEARS))
def test_a_printed_duration_reads_as_itself(seconds: int) -> None:
    duration = Duration(seconds)
    assert Duration.parse(duration.slurm) == duration
    assert Duration.parse(str(duration)) == Duration.parse(duration) == duration
    assert Duration.parse(f"{seconds}s") == duration


@given(st.integers(1, 1024**4))
def test_a_printed_amount_reads_as_itself(mib: int) -> None:
    memory = Memory(mib)
    assert Memory.parse(memory.slurm) == memory
    assert Memory.parse(mib) == Memory.parse(str(mib)) == Memory.parse(f"{mib} MiB") == memory


# sbatch(1): "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours", "days-hours:minutes"
# and "days-hours:minutes:seconds".
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 5400),
        ("90", 5400),
        ("90:30", 5430),
        ("01:30:00", 5400),
        ("36:00:00", 129600),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:30:15", 131415),
        ("0-00:00:01", 1),
        ("90m", 5400),
        ("90 min", 5400),
        ("2h30m", 9000),
        ("2 hours 30 minutes", 9000),
        ("2D", 172800),
        ("1w", 604800),
        ("1.5h", 5400),
        ("1.1h", 3960),
        ("0.7m", 42),
        ("2.3s", 3),
        (" 1h ", 3600),
    ],
)
def test_durations(text: object, seconds: int) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "h", "1x", "1h30", "1h 1h", "m1", "1:2:3:4", "1-", "-1", "-5m", "1--2", "1h-2", "1,5h"),
        *(
            "0",
            "00:00",
            "0h",
            "0-0",
            "1:90",
            "1:60:00",
            "1-2:60",
            "1-2:3:60",
            "1:2:60",
            "unlimited",
            "INFINITE",
        ),
        *("11y", "9999w", "1e3", "nan", "inf", "0x10", "1_000m", "1h\n2m\0"),
        *(0, -1, True, None, 1.5, float("nan"), float("inf"), [], {}, b"1h"),
    ],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError):
        Duration.parse(text)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary()))
def test_reading_ends_in_a_value_or_a_value_error(text: object) -> None:
    for kind in (Duration, Memory):
        try:
            assert kind.parse(text) > 0
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        (4000, 4000),
        ("4000", 4000),
        ("4000M", 4000),
        ("4000 MB", 4000),
        ("120G", 122880),
        ("120 GiB", 122880),
        ("120gb", 122880),
        ("1.5T", 1572864),
        ("1P", 1073741824),
        ("1K", 1),
        ("1025K", 2),
        ("0.5G", 512),
        (1.5, 2),
    ],
)
def test_amounts_of_memory(text: object, mib: int) -> None:
    assert Memory.parse(text) == mib


@pytest.mark.parametrize(
    "text",
    [
        *("", "G", "0", "0G", "-1G", "1E", "1GG", "1.G", ".5G", "1 000M", "120Gib/s", "lots", "1e3", "2000P"),
        *("500B", "500 b", "5ib", 1e300, float("inf"), float("nan")),
        *(0, -1, True, None, []),
    ],
)
def test_what_is_no_amount(text: object) -> None:
    with pytest.raises(ValueError):
        Memory.parse(text)


@pytest.mark.parametrize("digits", [30, 400, 5000])
def test_absurd_numbers_are_refused(digits: int) -> None:
    for value in (
        10**digits,
        "9" * digits,
        "9" * digits + "G",
        "9" * digits + "h",
        "1." + "9" * digits + "h",
    ):
        for kind in (Duration, Memory):
            with pytest.raises(ValueError):
                kind.parse(value)


def test_amounts_are_printed_in_the_largest_exact_unit() -> None:
    printed = {1: "1M", 1023: "1023M", 1024: "1G", 1536: "1536M", 122880: "120G", 1048576: "1T"}
    assert {mib: str(Memory(mib)) for mib in printed} == printed
    assert str(Duration(59)) == "00:00:59" and str(Duration(90000)) == "1-01:00:00"


def test_units_show_how_they_are_made() -> None:
    assert repr(Duration(90)) == "Duration.parse('00:01:30')"
    assert repr(Memory(1024)) == "Memory.parse('1G')"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**3, "3.0 GiB"), (5 * 1024**5, "5120.0 TiB")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.4, "0s"), (59.6, "1m"), (61, "1m 1s"), (3725, "1h 2m"), (86400, "1d"), (200000, "2d 7h")],
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
