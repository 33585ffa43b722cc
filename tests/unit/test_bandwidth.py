"""What is made of a sweep's numbers, and who meets whom."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.cli.site_bandwidth import bytes_text, draw, time_text
from hpcrun.probe.allreduce import allreduce
from hpcrun.probe.allreduce.allreduce import ROUNDS, rounds
from hpcrun.probe.bandwidth import Measured, judge_bandwidth, rate, read_measured, slow_nodes
from tests.cli_help import refused


def result(reached: dict[tuple[str, str], float], **more: Any) -> str:
    """What the program writes where these pairs moved so many bytes a second, a process a node."""
    nodes = sorted({node for pair in reached for node in pair})
    pairs = [{"a": a, "b": b, "bytes": 1000, "seconds": 1000 / value} for (a, b), value in reached.items()]
    sizes = [{"bytes": 1024, "seconds": 1e-5}, {"bytes": 4096, "seconds": 2e-5}]
    text = {"by": "mpi", "library": "Open MPI v5", "processor": "CPU", "right": True, "processes": len(nodes)}
    return json.dumps({**text, "nodes": nodes, "pairs": pairs, "sizes": sizes, **more})


def all_pairs(values: dict[str, float]) -> dict[tuple[str, str], float]:
    """Each pair is as fast as the slower of the two."""
    return {(a, b): min(values[a], values[b]) for a, b in combinations(sorted(values), 2)}


def found(measured: Measured) -> list[tuple[str, str]]:
    return [(each.level, each.message) for each in judge_bandwidth(measured)]


@given(st.integers(2, 65))
def test_each_node_has_one_partner_a_round(number: int) -> None:
    met: set[frozenset[int]] = set()
    for pairs in rounds(number):
        busy = [node for pair in pairs for node in pair]
        assert len(busy) == len(set(busy)) == number - number % 2 and set(busy) <= set(range(number))
        assert not met & {frozenset(pair) for pair in pairs}, "no two meet twice"
        met |= {frozenset(pair) for pair in pairs}
    if number <= ROUNDS:
        assert len(met) == number * (number - 1) // 2, "a few nodes all meet"


def test_bandwidths_are_those_of_nccl_tests() -> None:
    measured = read_measured(result(all_pairs(dict.fromkeys("abcd", 1e9))))
    small, large = measured.sizes
    assert small.algorithm == pytest.approx(102.4e6)
    assert large.bus == pytest.approx(4096 / 2e-5 * 2 * 3 / 4)
    assert measured.best is large


def test_all_is_well() -> None:
    measured = read_measured(result(all_pairs({"a": 1e9, "b": 1.1e9, "c": 0.9e9})))
    assert [level for level, _ in found(measured)] == ["ok"] and slow_nodes(measured) == []


@pytest.mark.parametrize("nodes", [3, 4, 9])
def test_the_slow_node_is_named(nodes: int) -> None:
    values = {f"n{i}": 1e9 for i in range(nodes)} | {"n1": 2e8}
    measured = read_measured(result(all_pairs(values)))
    assert slow_nodes(measured) == ["n1"]
    (warning,) = [message for level, message in found(measured) if level == "warning"]
    words = "n1 is slow: 200 MB/s with the best of its partners, where 1 GB/s is usual"
    assert warning == f"mpi: {words}"


def test_a_slow_way_between_two_nodes_that_are_well() -> None:
    reached = all_pairs(dict.fromkeys("abcd", 1e9)) | {("b", "d"): 1e8}
    measured = read_measured(result(reached))
    assert slow_nodes(measured) == []
    (warning,) = [message for level, message in found(measured) if level == "warning"]
    assert warning.startswith("mpi: between b and d it is 100 MB/s, where 1 GB/s is usual")


def test_two_nodes_do_not_tell() -> None:
    measured = read_measured(result({("a", "b"): 1e6}))
    assert [level for level, _ in found(measured)] == ["ok", "note"]


def test_wrong_sums_are_a_problem() -> None:
    measured = read_measured(result({("a", "b"): 1e9}, right=False))
    assert ("problem", "mpi: the sums of an all-reduce are wrong") in found(measured)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", result({("a", "b"): 1e9}, sizes=[{"bytes": 1, "seconds": 0}]), result({}, processes=2)],
)
def test_what_is_no_result(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a result of allreduce\.py"):
        read_measured(text)


def test_numbers_for_people() -> None:
    assert [rate(v) for v in (12.5e9, 999.9e6, 1.234e6, 999, 2.5e12)] == [
        *("12.5 GB/s", "1 GB/s", "1.23 MB/s", "999 B/s", "2.5 TB/s"),
    ]
    assert [bytes_text(v) for v in (100, 1024, 1 << 20, 3 << 29)] == ["100 B", "1 KiB", "1 MiB", "1.5 GiB"]
    assert [time_text(v) for v in (1.5, 0.0123, 4.2e-6)] == ["1.5 s", "12.3 ms", "4.2 us"]


def test_a_picture(tmp_path: Path) -> None:
    two = read_measured(result({("a", "b"): 1e9}))
    four = read_measured(result(all_pairs({"a": 1e9, "b": 1e8, "c": 1e9, "d": 1e9})))
    draw([two, four], tmp_path / "sweep.png", "virtual")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


SITE = "name: far\nconnection: {type: here}\nscheduler: {type: slurm}\nroot: /tmp\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nodes", "1"], "one process has nobody to talk to"),
        (["--by", "nccl"], "NCCL moves the memory of GPUs"),
        (["--plot", "sweep.gif"], "a picture is a PNG, SVG or PDF file"),
        (["--plot", "nowhere/sweep.png"], "there is no folder"),
        (["--up-to", "many"], "expected an amount of memory"),
    ],
)
def test_refused_before_anything_is_asked(options: list[str], words: str) -> None:
    Path("site_configs").mkdir()
    Path("site_configs/far.yaml").write_text(SITE)
    assert words in refused("site", "check", "far", "--bandwidth", *options, code=2)
    assert not Path(".hpcrun/runs").exists()


def test_this_machine_has_no_scheduler() -> None:
    assert "has no scheduler" in refused("site", "check", "local", "--bandwidth", code=2)


def test_a_library_that_crashes_leaves_a_word_of_where(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("import ctypes\nctypes.string_at(0)\n")
    argv = [sys.executable, allreduce.__file__, "--by", "mpi", "--most", "1024"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGSEGV
    assert re.search(r'allreduce\.py", line \d+ in __init__', done.stderr), done.stderr
