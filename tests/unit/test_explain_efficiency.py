"""What a run took of what it asked for: the line, and what to ask for next."""

from __future__ import annotations

from typing import Any

import pytest

from hpcrun.explain.efficiency import used
from hpcrun.explain.facts import Explanation, Facts
from hpcrun.explain.rules import explain
from hpcrun.states import RunState

RUN = "cifar_20260131-120000_abcdefgh"
GIB = 2**30
WHOLE: dict[str, float] = {
    "elapsed_seconds": 12000,
    "cpu_seconds": 58560,
    "allocated_cpus": 8,
    "allocated_nodes": 2,
    "requested_memory_bytes": 240 * GIB,
    "memory_bytes": 12.25 * GIB,
    "max_rss_bytes": 8 * GIB,
}


def ended(usage: dict[str, float], state: RunState = RunState.COMPLETED, **more: Any) -> Explanation:
    return explain(Facts(RUN, state, usage=usage, time_limit=43200, **{"memory": 120 * 1024, **more}))


def test_the_line() -> None:
    assert used(WHOLE, 43200) == "3h 20m of 12h (28 %), 61 % of 8 CPUs, 12.2 GiB of 240.0 GiB (5 %)"


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (None, ""),
        ({}, ""),
        ({"elapsed_seconds": 5}, "5s"),
        ({"elapsed_seconds": 0, "cpu_seconds": 1.0, "allocated_cpus": 1}, "0s"),
        ({"elapsed_seconds": 100, "cpu_seconds": 0.5, "allocated_cpus": 1}, "1m 40s, less than 1 % of 1 CPU"),
        ({"max_rss_bytes": 2**20}, "1.0 MiB in its largest process"),
    ],
)
def test_what_is_not_known_is_left_out(usage: dict[str, float] | None, words: str) -> None:
    assert used(usage, None) == words


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED, RunState.CANCELED])
def test_every_run_that_has_ended_has_the_line(state: RunState) -> None:
    assert ended(WHOLE, state).used == used(WHOLE, 43200)
    assert explain(Facts(RUN, RunState.RUNNING, usage=WHOLE)).used == ""


def test_memory_that_lay_idle() -> None:
    """On each node: no less than the largest task took there, and half of that to spare."""
    assert [line for line in ended(WHOLE).next if "--mem" in line] == [
        "Most of the memory lay idle (12.2 GiB of 240.0 GiB); less is free sooner: --mem 12G would do."
    ]
    even = {**WHOLE, "max_rss_bytes": 1 * GIB}
    assert "--mem 10G would do" in ended(even).next[0]
    assert "resources" in ended(WHOLE, memory=None).next[0]
    small = {**WHOLE, "memory_bytes": 200 * 2**20, "max_rss_bytes": 2**20}
    assert "--mem 256M would do" in ended(small).next[0]


@pytest.mark.parametrize(
    "more",
    [
        {"memory_bytes": 100 * GIB},
        {"requested_memory_bytes": GIB // 2, "memory_bytes": 1},
        {"elapsed_seconds": 20, "cpu_seconds": 160},
    ],
)
def test_memory_that_was_needed_was_little_or_is_not_known(more: dict[str, float]) -> None:
    assert not [line for line in ended({**WHOLE, **more}).next if "memory" in line]


def test_cpus_that_lay_idle() -> None:
    idle = {**WHOLE, "cpu_seconds": 13000}
    assert "Of 8 CPUs about 2 would have been enough" in ended(idle).next[-1]
    assert not [line for line in ended(WHOLE).next if "CPUs" in line]
    assert not [line for line in ended({**idle, "allocated_cpus": 1}).next if "CPUs" in line]


def test_a_run_that_failed_is_told_what_ails_it_and_not_what_it_wasted() -> None:
    found = ended({**WHOLE, "cpu_seconds": 1}, RunState.FAILED, exit_code=1)
    assert found.used and not [line for line in found.next if "idle" in line or "CPUs" in line]
