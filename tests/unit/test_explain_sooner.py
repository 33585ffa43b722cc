"""What would start a waiting run sooner: by its reason, what it asks for and what its site describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine.asked import ask_of
from hpcrun.explain.facts import Ask, Facts, Partition
from hpcrun.explain.rules import explain
from hpcrun.explain.sooner import sooner
from hpcrun.history.record import RunRecord
from hpcrun.states import RunState

RUN = "cifar_20260131-120000_abcdefgh"
BIG = Ask("main", time=43200, nodes=4, cpus=64, cpus_per_node=16, memory=120 * 1024, gpus=4, gpu_type="a100")
SMALL = Ask("main", time=600)
SITE = {
    "main": Partition(max_time=86400, max_nodes=8, gpus_per_node=4, gpu_types=("a100",)),
    "fat": Partition(max_time=172800, max_memory_per_node=2**20, gpus_per_node=8, gpu_types=("a100", "h100")),
    "short": Partition(max_time=3600, max_nodes=4, gpus_per_node=4, gpu_types=("a100",)),
    "cpu": Partition(max_time=86400, max_memory_per_node=64 * 1024),
    "plain": Partition(),
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
        "Other partitions that would take it as it is: fat (at most 2d); submit with -p NAME.",
        "Others that would take a shorter run: short with --time 01:00:00 or less.",
    ]


def test_what_it_does_not_ask_for_it_cannot_ask_less_of() -> None:
    found = "\n".join(waits("Priority", SMALL))
    assert "nodes" not in found and "GPUs" not in found
    assert "fat (at most 2d), short (at most 1h), cpu (at most 1d), plain; submit" in found
    assert waits("Priority", Ask(), {}) == []


@pytest.mark.parametrize(
    ("ask", "there", "fits"),
    [
        (Ask(time=61), Partition(max_time=60), False),
        (Ask(time=60), Partition(max_time=60), True),
        (Ask(nodes=2), Partition(max_nodes=1), False),
        (Ask(cpus=8, cpus_per_node=8), Partition(max_cpus_per_node=4), False),
        (Ask(memory=2), Partition(max_memory_per_node=1), False),
        (Ask(gpus=1), Partition(), False),
        (Ask(gpus=2), Partition(gpus_per_node=1), False),
        (Ask(gpus=1), Partition(gpus_per_node=1), True),
        (Ask(gpus=1, gpu_type="h100"), Partition(gpus_per_node=1, gpu_types=("a100",)), False),
        (Ask(memory=2, nodes=2), Partition(), True),
    ],
)
def test_which_partition_would_take_it(ask: Ask, there: Partition, fits: bool) -> None:
    """What is not described is no limit, but for GPUs: where none are described there are none."""
    assert any("as it is: there" in line for line in waits("Priority", ask, {"there": there})) is fits


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


def record(**more: Any) -> RunRecord:
    return RunRecord(id=RUN, experiment="cifar", target="s:gpu", scheduler="slurm", **more)


def test_what_a_run_asks_for_is_read_from_its_record(tmp_path: Path) -> None:
    asked = record(submission={"request": {"cpus": 6, "gpus": 2, "time_limit": 60}})
    config = {
        "resources": {"nodes": 1, "partition": "main", "memory": "2G", "gpus_per_node": "a100:2"},
        "distributed_job_config": {"node_count": 4},
    }
    assert ask_of(asked, config) == Ask("main", 60, 4, 6, 2, 2048, 2, "a100")
    assert ask_of(record(), {"resources": {"gpus_per_node": 3}}) == Ask("gpu", gpus=3)
    odd = {
        "resources": {"nodes": "x", "memory": [], "gpus_per_node": "a:\u0663"},
        "distributed_job_config": 1,
    }
    assert ask_of(record(submission={"request": "x"}), odd) == Ask("gpu", gpu_type="a")
