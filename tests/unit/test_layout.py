"""How many processes where: counts that agree, and counts that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hpcrun.models.distributed import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from hpcrun.models.layout import Layout, LayoutError, layout
from hpcrun.models.resources import Resources
from hpcrun.models.run import ScriptRunConfig

Dist = MpiConfiguration | PyTorchConfiguration | TensorflowConfiguration | None


def lay(dist: Dist = None, *, command: str | None = None, **resources: Any) -> Layout:
    config = ScriptRunConfig(
        ".",
        None if command else "train.py",
        command=command,
        distributed_job_config=dist,
        resources=Resources(**resources),
    )
    return layout(config)


def test_one_process_unless_told_otherwise() -> None:
    assert lay() == Layout("single", nodes=1, tasks_per_node=1, cpus_per_task=1, gpus_per_node=0)
    assert lay().processes == 1


def test_a_single_script_runs_once_whatever_it_holds() -> None:
    found = lay(nodes=2, tasks_per_node=4, cpus_per_task=3, gpus_per_node="a100:2")
    assert found == Layout("single", nodes=2, tasks_per_node=4, cpus_per_task=3, gpus_per_node=2)
    assert found.processes == 1


@pytest.mark.parametrize(
    ("dist", "resources", "nodes", "per_node"),
    [
        (MpiConfiguration(), {}, 1, 1),
        (MpiConfiguration(4, 2), {}, 2, 4),
        (MpiConfiguration(4), {"nodes": 3}, 3, 4),
        (MpiConfiguration(), {"nodes": 2, "tasks_per_node": 8}, 2, 8),
        (MpiConfiguration(node_count=2), {"tasks_per_node": 8}, 2, 8),
        (MpiConfiguration(4, 2), {"nodes": 2, "tasks_per_node": 4}, 2, 4),
        (PyTorchConfiguration(), {}, 1, 1),
        (PyTorchConfiguration(node_count=2), {}, 2, 1),
        (PyTorchConfiguration(node_count=2), {"gpus_per_node": 4}, 2, 4),
        (PyTorchConfiguration(node_count=2), {"gpus_per_node": 4, "tasks_per_node": 2}, 2, 2),
        (PyTorchConfiguration(process_count=8, node_count=2), {}, 2, 4),
        (PyTorchConfiguration(process_count=8), {"nodes": 4}, 4, 2),
        (PyTorchConfiguration(process_count=1), {"gpus_per_node": 8}, 1, 1),
    ],
)
def test_counts_that_agree(dist: Dist, resources: dict[str, Any], nodes: int, per_node: int) -> None:
    found = lay(dist, **resources)
    assert (found.nodes, found.tasks_per_node) == (nodes, per_node)
    assert found.processes == nodes * per_node


def test_a_torch_command_starts_its_own_processes() -> None:
    found = lay(PyTorchConfiguration(node_count=2), command="torchrun train.py", gpus_per_node=4)
    assert (found.nodes, found.tasks_per_node, found.gpus_per_node) == (2, 1, 4)


def test_torchrun_is_started_once_a_node() -> None:
    torchrun = PyTorchConfiguration(node_count=2, launcher="torchrun")
    for command in (None, "python train.py"):
        found = lay(torchrun, command=command, gpus_per_node=4, cpus_per_task=3)
        assert (found.nodes, found.tasks_per_node, found.processes) == (2, 4, 8)
        assert (found.started_per_node, found.cpus_of_started) == (1, 12)
    by_srun = lay(PyTorchConfiguration(node_count=2), gpus_per_node=4, cpus_per_task=3)
    assert (by_srun.started_per_node, by_srun.cpus_of_started) == (4, 3)


def test_the_number_of_nodes_may_be_open() -> None:
    elastic = PyTorchConfiguration(launcher="torchrun", min_nodes=2, max_nodes=4)
    found = lay(elastic, tasks_per_node=2)
    assert (found.least_nodes, found.nodes, found.processes) == (2, 4, 8)
    assert lay(elastic, nodes=4).nodes == 4
    for bad in (
        {"min_nodes": 2, "max_nodes": 4},
        {"launcher": "torchrun", "min_nodes": 2},
        {"launcher": "torchrun", "max_nodes": 2},
        {"launcher": "torchrun", "min_nodes": 3, "max_nodes": 2},
        {"launcher": "torchrun", "min_nodes": 1, "max_nodes": 2, "node_count": 2},
        {"launcher": "torchrun", "min_nodes": 1, "max_nodes": 2, "process_count": 2},
        {"max_restarts": 1},
    ):
        with pytest.raises(ValidationError):
            PyTorchConfiguration(**bad)


@pytest.mark.parametrize(
    ("workers", "servers", "resources", "nodes", "per_node"),
    [
        (None, None, {}, 1, 2),
        (2, 0, {}, 2, 1),
        (2, 1, {}, 2, 2),
        (2, 5, {}, 2, 4),
        (4, 2, {"nodes": 2}, 2, 3),
        (4, 2, {"nodes": 2, "tasks_per_node": 3}, 2, 3),
    ],
)
def test_parameter_servers_share_the_nodes_of_workers(
    workers: int | None, servers: int | None, resources: dict[str, Any], nodes: int, per_node: int
) -> None:
    found = lay(TensorflowConfiguration(workers, servers), **resources)
    assert (found.nodes, found.tasks_per_node) == (nodes, per_node)
    assert found.processes == (1 if workers is None else workers) + (1 if servers is None else servers)


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"nodes": 2}, "distributed_job_config.worker_count"),
        ({"tasks_per_node": 3}, "resources.tasks_per_node"),
    ],
)
def test_workers_that_do_not_fit(resources: dict[str, Any], path: str) -> None:
    with pytest.raises(LayoutError) as caught:
        lay(TensorflowConfiguration(3, 1), **resources)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("dist", "resources", "path"),
    [
        (MpiConfiguration(4, 2), {"nodes": 3}, "node_count"),
        (MpiConfiguration(node_count=1), {"nodes": 2}, "node_count"),
        (PyTorchConfiguration(node_count=2), {"nodes": 1}, "node_count"),
        (MpiConfiguration(4), {"tasks_per_node": 2}, "process_count_per_node"),
        (MpiConfiguration(1), {"tasks_per_node": 2}, "process_count_per_node"),
        (PyTorchConfiguration(process_count=8, node_count=2), {"tasks_per_node": 8}, "process_count"),
        (PyTorchConfiguration(process_count=7), {"nodes": 2}, "process_count"),
        (PyTorchConfiguration(launcher="torchrun", min_nodes=1, max_nodes=2), {"nodes": 3}, "max_nodes"),
    ],
)
def test_contradictions(dist: Dist, resources: dict[str, Any], path: str) -> None:
    with pytest.raises(LayoutError) as caught:
        lay(dist, **resources)
    assert caught.value.path == f"distributed_job_config.{path}"


def test_seven_processes_do_not_go_onto_two_nodes() -> None:
    with pytest.raises(ValidationError, match="7 processes do not go evenly onto 2 nodes"):
        PyTorchConfiguration(process_count=7, node_count=2)
    with pytest.raises(LayoutError, match="7 processes do not go evenly onto 2 nodes"):
        lay(PyTorchConfiguration(process_count=7), nodes=2)


def test_left_out_and_said_are_told_apart_from_a_file_too() -> None:
    left_out = MpiConfiguration.model_validate({"type": "mpi"})
    assert lay(left_out, nodes=2, tasks_per_node=4).processes == 8
    said = MpiConfiguration.model_validate({"type": "mpi", "process_count_per_node": 1})
    with pytest.raises(LayoutError):
        lay(said, tasks_per_node=4)


counts = st.none() | st.integers(1, 12)


@given(total=counts, node_count=counts, nodes=counts, per_node=counts, gpus=st.none() | st.integers(0, 8))
def test_a_layout_holds_what_was_said(
    total: int | None, node_count: int | None, nodes: int | None, per_node: int | None, gpus: int | None
) -> None:
    given_resources: dict[str, Any] = {"nodes": nodes, "tasks_per_node": per_node, "gpus_per_node": gpus}
    try:
        dist = PyTorchConfiguration(process_count=total, node_count=node_count)
        found = lay(dist, **given_resources)
    except (LayoutError, ValidationError):
        agreed = nodes in (None, node_count) or node_count is None
        even = total is None or total % (node_count or nodes or 1) == 0
        fits = None in (total, per_node) or total == (per_node or 0) * (node_count or nodes or 1)
        assert not (agreed and even and fits)
        return
    assert total in (None, found.processes)
    assert node_count in (None, found.nodes) and nodes in (None, found.nodes)
    assert per_node in (None, found.tasks_per_node)
