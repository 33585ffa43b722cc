"""What would start a waiting run sooner: by its reason, what it asks for and what its site describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine.asked import asked
from hpcrun.engine.explain import gather
from hpcrun.explain.facts import Ask, Facts, Partition
from hpcrun.explain.rules import explain
from hpcrun.explain.sooner import sooner
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.states import RunState
from hpcrun.targets import Targets

RUN = "cifar_20260131-120000_abcdefgh"
BIG = Ask("main", time=43200, nodes=4, cpus=64, memory=120 * 1024, gpus=4, gpu_type="a100")
SMALL = Ask("main", time=600)
SITE = {
    "main": Partition(86400, 8, "as it is"),
    "fat": Partition(172800, takes="as it is"),
    "short": Partition(3600, 4, takes="shorter"),
    "cpu": Partition(86400),
    "plain": Partition(takes="as it is"),
}


def waits(reason: str, ask: Ask = BIG, site: dict[str, Partition] | None = None, **more: Any) -> list[str]:
    found = Facts(
        RUN, RunState.QUEUED, reason=reason, ask=ask, partitions=SITE if site is None else site, **more
    )
    assert explain(found).next[: len(sooner(found))] == sooner(found)
    return sooner(found)


@pytest.mark.parametrize("reason", ["Priority", "Resources"])
def test_a_run_in_the_queue_may_ask_for_less_or_go_elsewhere(reason: str) -> None:
    assert waits(reason) == [
        "Ask for less time than 12h (--time), if it needs less: a short job is let into a gap that a long one"
        " does not fit into.",
        "Ask for fewer nodes than 4 (--nodes): they must all be free at once.",
        "Ask for fewer GPUs than 4 a node (--gpus-per-node).",
        "Ask for GPUs of any type (--gpus-per-node 4), if it need not be a100.",
        "Other partitions that would take it as it is: fat (at most 2d), plain; submit with -p NAME.",
        "Others that would take a shorter run: short with --time 01:00:00 or less.",
    ]


def test_what_it_does_not_ask_for_it_cannot_ask_less_of() -> None:
    found = "\n".join(waits("Priority", SMALL))
    assert "nodes" not in found and "GPUs" not in found
    assert waits("Priority", Ask(), {}) == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("PartitionTimeLimit", "main allows 1-00:00:00: ask for no more by --time."),
        ("PartitionNodeLimit", "main allows 8 nodes: ask for no more by --nodes."),
        ("QOSMaxGRESPerUser", "Ask for fewer GPUs than 4 a node"),
        ("AssocGrpCpuLimit", "Ask for fewer CPUs than 64"),
        ("AssocGrpCPURunMinutesLimit", "Ask for less time than 12h"),
        ("QOSMaxWallDurationPerJobLimit", "Ask for less time than 12h"),
        ("QOSMaxNodePerUserLimit", "Ask for fewer nodes than 4"),
        ("AssocGrpMemLimit", "Ask for less memory than 120G a node"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "Ask for less time than 12h"),
        ("PartitionDown", "Other partitions that would take it as it is: fat"),
    ],
)
def test_each_limit_by_what_it_limits(reason: str, words: str) -> None:
    assert words in "\n".join(waits(reason))


@pytest.mark.parametrize(
    "reason", ["JobHeldUser", "Dependency", "BeginTime", "QOSMaxJobsPerUserLimit", "New"]
)
def test_where_asking_for_less_would_not_help_nothing_is_said(reason: str) -> None:
    assert waits(reason) == []


def test_the_start_that_slurm_expects() -> None:
    def words(**more: Any) -> str:
        return explain(Facts(RUN, RunState.QUEUED, reason="Priority", **more)).words

    assert words() == "The run waits. Jobs of a higher priority go first."
    at = "2026-02-01 08:00:00"
    assert words(start=at, starts_in=7500.0).endswith(f" Slurm expects it to start at {at} (in 2h 5m).")
    bare = explain(Facts(RUN, RunState.QUEUED, start=at)).words
    assert (
        bare == f"The run waits. The scheduler has not looked at it yet. Slurm expects it to start at {at}."
    )
    assert words(start=at, starts_in=-5.0).endswith(f" Slurm expects it to start at {at}.")


SITE_FILE = """
partitions:
  main: {max_time: 1d, max_nodes: 8, gpus_per_node: 4, gpu_types: [a100]}
  fat: {max_time: 2d, gpus_per_node: 8, gpu_types: [a100, h100]}
  short: {max_time: 10m, gpus_per_node: 4}
  narrow: {max_nodes: 3, gpus_per_node: 4}
  other: {gpus_per_node: 4, gpu_types: [h100]}
  cpu: {max_time: 7d}
  brief: {max_time: 10m, max_nodes: 1, gpus_per_node: 4}
"""
CONFIG = """
command: "true"
resources: {partition: main, time: 1h, nodes: 4, cpus_per_task: 8, memory: 2G, gpus_per_node: "a100:2"}
"""


@pytest.fixture
def targets(tmp_path: Path) -> Targets:
    (tmp_path / "site_configs").mkdir()
    (tmp_path / "site_configs" / "big.yaml").write_text(SITE_FILE)
    return Targets(tmp_path)


def record(**more: Any) -> RunRecord:
    known = {"id": RUN, "experiment": "cifar", "target": "big:main", "scheduler": "slurm", **more}
    return RunRecord(**known)


def test_what_a_run_asks_for_and_who_would_take_it(targets: Targets) -> None:
    """By its configuration and its site's file. No GPUs are where nobody says that there are any."""
    ask, partitions = asked(record(config={"yaml": CONFIG}), targets)
    assert ask == Ask("main", 3600, 4, 32, 2048, 2, "a100")
    assert {name: there.takes for name, there in partitions.items()} == {
        "main": "as it is",
        "fat": "as it is",
        "short": "shorter",
        "narrow": "",
        "other": "",
        "cpu": "",
        "brief": "",
    }
    assert (partitions["main"].max_time, partitions["main"].max_nodes) == (86400, 8)


@pytest.mark.parametrize(
    "more",
    [{"target": "gone"}, {"config": {}}, {"config": {"yaml": "a: ["}}, {"config": {"yaml": "nodes: 3"}}],
)
def test_of_what_cannot_be_read_nothing_is_said(more: dict[str, Any], targets: Targets) -> None:
    assert asked(record(**{"config": {"yaml": CONFIG}, **more}), targets) == (Ask(), {})


def test_nothing_is_looked_up_for_a_run_that_does_not_wait(targets: Targets, tmp_path: Path) -> None:
    for state, scheduler in ((RunState.RUNNING, "slurm"), (RunState.QUEUED, "local")):
        known = record(state=state, scheduler=scheduler, config={"yaml": CONFIG})
        assert gather(known, RunPaths(tmp_path), targets).partitions == {}
    waits = record(state=RunState.QUEUED, config={"yaml": CONFIG})
    assert gather(waits, RunPaths(tmp_path), targets).partitions


def test_a_held_run_has_no_start_to_expect() -> None:
    """Slurm goes on showing the one that it worked out before."""
    held = explain(Facts(RUN, RunState.QUEUED, reason="JobHeldUser", start="2026-02-01 08:00:00"))
    assert "expects" not in held.words
