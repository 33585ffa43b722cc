"""What a run asks for beside what partitions allow, and Slurm's text on the latter, read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import MpiConfiguration, PyTorchConfiguration, ScriptRunConfig
from hpcrun.check.findings import Start
from hpcrun.check.limits import (
    Asked,
    Limits,
    advice,
    asked_of,
    described,
    excesses,
    fitting,
    over_description,
    without_gpus,
)
from hpcrun.models.site import Site
from hpcrun.schedulers.slurmlimits import (
    Association,
    Qos,
    parse_associations,
    parse_partitions,
    parse_qos,
    parse_start,
)
from tests.engine_help import slurm_site

PARTITIONS: dict[str, Any] = {
    "gpu": {
        "max_time": "2d",
        "max_nodes": 4,
        "max_cpus_per_node": 16,
        "max_memory_per_node": "100G",
        "gpus_per_node": 4,
        "gpu_types": ["a100", "h100"],
    },
    "long": {"max_time": "10d", "max_nodes": 2, "max_cpus_per_node": 64, "max_memory_per_node": "200G"},
    "open": {},
}


def site(**more: Any) -> Site:
    return slurm_site(partitions=PARTITIONS, **more)


def asked(config: dict[str, Any] | None = None, **resources: Any) -> Asked:
    return asked_of(ScriptRunConfig(command="true", resources=resources, **(config or {})), site())


def over(partition: str, **resources: Any) -> list[tuple[str, str]]:
    found = excesses(asked(**resources), described(site())[partition])
    return [(each.code, each.message) for each in found]


@pytest.mark.parametrize(
    ("resources", "code", "numbers"),
    [
        ({"time": "3d"}, "Time", ("3-00:00:00", "2-00:00:00")),
        ({"nodes": 5}, "Nodes", ("5", "4")),
        ({"cpus_per_task": 17}, "CPUs", ("17", "16")),
        ({"tasks_per_node": 3, "cpus_per_task": 6}, "CPUs", ("18", "16")),
        ({"memory": "101G"}, "Memory", ("101G", "100G")),
        ({"memory_per_cpu": "30G", "cpus_per_task": 4}, "Memory", ("120G", "100G")),
        ({"memory_per_gpu": "60G", "gpus_per_node": 2}, "Memory", ("120G", "100G")),
        ({"gpus_per_node": 5}, "GPUs", ("5", "4")),
        ({"gpus_per_node": "a100:5"}, "GPUs", ("5", "4")),
        ({"gpus_per_node": "v100:1"}, "GPUs", ("v100", "a100, h100")),
    ],
)
def test_over_a_limit(resources: dict[str, Any], code: str, numbers: tuple[str, str]) -> None:
    """One thing, and both numbers in its message."""
    ((found, message),) = over("gpu", **resources)
    assert found == code and "partition gpu" in message
    assert all(number in message for number in numbers)


@pytest.mark.parametrize(
    "resources",
    [
        {"time": "2d", "nodes": 4, "cpus_per_task": 16, "memory": "100G", "gpus_per_node": "a100:4"},
        {"gpus_per_node": "A100:1"},
        {},
    ],
)
def test_at_the_limit_is_not_over_it(resources: dict[str, Any]) -> None:
    assert over("gpu", **resources) == []


def test_all_that_is_over_is_told_at_once() -> None:
    found = over("gpu", time="3d", nodes=5, cpus_per_task=17, memory="101G", gpus_per_node=5)
    assert [code for code, _ in found] == ["Time", "Nodes", "CPUs", "Memory", "GPUs"]


def test_what_nobody_says_is_no_limit() -> None:
    assert over("open", time="30d", nodes=500, cpus_per_task=999, memory="9T", gpus_per_node=8) == []


def test_a_site_without_memory_directives_is_not_asked_for_memory() -> None:
    config = ScriptRunConfig(command="true", resources={"memory": "9T"})
    assert asked_of(config, site(scheduler={"memory_directive": "none"})).memory is None


def test_the_shorter_of_two_times_counts() -> None:
    """And the key that says it is the one to look at."""
    short = asked({"max_run_duration_seconds": 60}, time="3d")
    assert (short.time, short.keys["Time"]) == (60, ("max_run_duration_seconds",))
    assert asked(time="3d").keys["Time"] == ("resources", "time")


def test_nodes_of_a_distributed_run() -> None:
    config = {"distributed_job_config": MpiConfiguration(process_count_per_node=20, node_count=9)}
    found = asked(config)
    assert (found.nodes, found.cpus) == (9, 20)
    assert found.keys["Nodes"] == ("distributed_job_config", "node_count")
    by_resources = asked({"distributed_job_config": PyTorchConfiguration()}, nodes=3)
    assert (by_resources.nodes, by_resources.keys["Nodes"]) == (3, ("resources", "nodes"))


def test_fewer_nodes_than_a_partition_wants() -> None:
    (found,) = excesses(asked(nodes=1), Limits("large", min_nodes=6))
    assert found.code == "Nodes" and "6 at least" in found.message and found.less == "--nodes 6"


def test_partitions_that_would_take_it() -> None:
    """Only those that are known to: of ``open`` nothing is said."""
    wanted, known = asked(time="3d"), described(site())
    assert fitting(wanted, known, "Time") == ["long"]
    (excess,) = excesses(wanted, known["gpu"])
    assert advice(excess, wanted, known) == "--time 2-00:00:00, or a partition that takes it: long"
    (excess,) = excesses(asked(gpus_per_node=5), known["gpu"])
    assert advice(excess, asked(gpus_per_node=5), known).startswith("--gpus-per-node 4; no other partition")


def test_gpus_where_nothing_is_said_of_any() -> None:
    assert without_gpus(asked(gpus_per_node=1), "long", described(site())) == ["gpu"]
    assert without_gpus(asked(), "long", described(site())) == []
    assert without_gpus(asked(gpus_per_node=1), "gpu", described(site())) == []


def test_of_several_partitions_one_that_takes_the_run_is_enough() -> None:
    def names(partition: str) -> list[str]:
        config = ScriptRunConfig(command="true", resources={"time": "3d", "partition": partition})
        return [name for name, _, _ in over_description(config, site())]

    assert names("gpu") == ["gpu"]
    assert names("gpu,long") == []
    assert names("elsewhere") == []


SCONTROL = (
    "PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=00:10:00 MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 MaxCPUsPerNode=UNLIMITED "
    "Nodes=n[1-3] State=UP TotalCPUs=12 TotalNodes=3 DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED "
    "TRES=cpu=12,mem=12000M,node=3\n"
    "PartitionName=closed AllowAccounts=lab,other DenyQos=high Default=NO DefaultTime=NONE MaxNodes=2 "
    "MaxTime=UNLIMITED MinNodes=2 MaxCPUsPerNode=8 State=DOWN TotalNodes=9 MaxMemPerNode=1000\n"
)
SINFO = (
    "main|4|4000|gpu:fake:2(S:0-1)\n"
    "main|64+|256000|gpu:a100:4(IDX:0-3),gpu:fake:1,nvme:1\n"
    "closed|64|256000|(null)\nother|1|1|gpu:8\n"
)


def test_partitions_as_slurm_tells_them() -> None:
    """Of unlike nodes the largest counts; of a node and its partition the smaller."""
    found = parse_partitions("a banner\n" + SCONTROL, "another\n" + SINFO)
    assert list(found) == ["main", "closed"]
    main, closed = found["main"], found["closed"]
    assert main.limits == Limits(
        "main", 86400, 3, 1, cpus=64, memory=256000, gpus=5, gpu_types={"fake": 2, "a100": 4}
    )
    assert (main.default, main.state, main.default_time, main.accounts, main.qos) == (
        *(True, "UP", 600, None, None),
    )
    assert closed.limits == Limits("closed", None, 2, 2, cpus=8, memory=1000, gpus=0, gpu_types={})
    assert (closed.state, closed.accounts, closed.denied_qos) == ("DOWN", ("lab", "other"), ("high",))


def test_partitions_without_a_word_on_their_nodes() -> None:
    assert parse_partitions(SCONTROL, "")["main"].limits == Limits("main", 86400, 3, 1)
    assert parse_partitions("", SINFO) == {}


def test_associations() -> None:
    said = "lab||high,normal\nother|gpu|normal\n\nan account of everybody's\n|x|y\n"
    assert parse_associations(said) == [
        Association("lab", "", ("high", "normal")),
        Association("other", "gpu", ("normal",)),
    ]


@given(st.text(st.sampled_from("PartitionName=x MaxTime1-0:|,gpu()+\n")), st.text())
def test_torn_answers(near: str, far: str) -> None:
    """Whatever comes is read as far as it goes."""
    for said in (near, far, SCONTROL[: len(near)]):
        parse_partitions(SCONTROL + said, SINFO + said)
        parse_partitions(said, said)
        parse_associations(said)
        parse_qos(said)
        parse_start(said)


def test_a_qos() -> None:
    said = "high|DenyOnLimit,PartitionTimeLimit|1-00:00:00\nnormal||\n|x|\nx\n"
    assert parse_qos(said) == [
        Qos("high", frozenset({"DenyOnLimit", "PartitionTimeLimit"}), 86400),
        Qos("normal", frozenset({""}), None),
    ]


@pytest.mark.parametrize(
    ("said", "start"),
    [
        (
            "sbatch: Job 1 to start at 2026-11-22T22:58:50 using 2 processors on nodes n1 in partition p\n",
            Start("2026-11-22T22:58:50Z", "n1", "p"),
        ),
        (
            "sbatch: lua: welcome\nsbatch: Job 9 to start at 2026-01-01T00:00:00 using 1 processors on n1\n",
            Start("2026-01-01T00:00:00Z", "n1", ""),
        ),
        ("sbatch: Job 9 to start at Unknown using 1 processors on nodes n1 in partition main\n", None),
        ("allocation failure: Invalid qos specification\n", None),
        ("", None),
    ],
)
def test_the_start_in_sbatchs_answer(said: str, start: Start | None) -> None:
    assert parse_start(said) == start
