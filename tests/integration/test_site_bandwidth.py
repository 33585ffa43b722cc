"""``hpcrun site check --bandwidth`` on real nodes: by MPI and by torch, and one node whose cable is bad."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from tests.integration.support import BARE_PYTHON, SYSTEM_PYTHON, Document, Login
from tests.unit.test_docs_json import TABLES, keys

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def environment(login: Login, python: str) -> str:
    """A run.yaml that names an interpreter."""
    asked = {"command": ["true"], "environment": {"python": {"interpreter_path": python}}}
    return login.write(f"{login.home}/bandwidth/run.yaml", json.dumps(asked))


def check(login: Login, python: str, *options: str) -> Document:
    folder = f"{login.home}/bandwidth"
    file = environment(login, python)
    return login.json(
        *("site", "check", "virtual", "--bandwidth", "--environment", file, *options), cwd=folder, timeout=240
    )


def said(report: Document, level: str) -> list[str]:
    return [f["message"] for f in report["findings"] if f["code"] == "Bandwidth" and f["level"] == level]


def test_a_slow_node_is_named(login: Login) -> None:
    """By MPI over three nodes; the way to one of them carries a hundredth of what the others do."""
    with login.cluster.slow_link("node2", 40):
        report = check(login, SYSTEM_PYTHON, "--by", "mpi", "--nodes", "3", "--up-to", "1M")
    (measured,) = report["bandwidth"]
    rows = TABLES["site check"]
    assert set(keys(report, rows)) == {key for key in rows if not key.startswith("connection.")}
    assert (measured["by"], measured["processes"], measured["right"]) == ("mpi", 3, True)
    assert measured["nodes"] == ["node1", "node2", "node3"] and "Open MPI" in measured["library"]
    assert [each["bytes"] for each in measured["sizes"]] == [1 << n for n in range(10, 21, 2)]
    largest = measured["sizes"][-1]
    assert largest["bus"] == pytest.approx(largest["algorithm"] * 4 / 3)
    assert largest["bus"] < 40e6 / 8 * 1.5, "an all-reduce is as slow as its slowest node"
    by_pair = {pair["a"] + pair["b"]: pair["bandwidth"] for pair in measured["pairs"]}
    assert set(by_pair) == {"node1node2", "node1node3", "node2node3"}
    assert by_pair["node1node3"] > 3 * max(by_pair["node1node2"], by_pair["node2node3"])
    (warning,) = said(report, "warning")
    assert warning.startswith("mpi: node2 is slow: ") and report["ok"]

    run = login.json("show", measured["run"], cwd=f"{login.home}/bandwidth")
    assert (run["experiment"], run["state"]) == ("site-check", "Completed"), "a run like any other"


def test_by_torch_and_a_picture(login: Login) -> None:
    """Gloo between two nodes, two processes on each; the table, and a PNG."""
    folder = f"{login.home}/bandwidth"
    file = environment(login, sys.executable)
    done = login.hpcrun(
        *("site", "check", "virtual", "--bandwidth", "--by", "gloo", "--environment", file),
        *("--up-to", "1M", "--plot", "sweep.png"),
        cwd=folder,
        timeout=240,
    )
    assert "gloo: 2 processes on 2 nodes, torch " in done.stdout, done.stdout + done.stderr
    assert "     1 MiB" in done.stdout and "two nodes alone do not tell" in done.stdout
    assert login.cluster.outside(f"{folder}/sweep.png").read_bytes().startswith(b"\x89PNG")


def test_an_environment_without_mpi4py(login: Login) -> None:
    """The run's own failure, and what would help; nothing is left in the queue."""
    done = login.hpcrun(
        *("site", "check", "virtual", "--bandwidth", "--by", "mpi", "--environment"),
        environment(login, BARE_PYTHON),
        cwd=f"{login.home}/bandwidth",
        check=False,
        timeout=240,
    )
    assert done.returncode != 0 and "its environment needs mpi4py" in done.stderr.lower().replace("\n", " ")


def test_ctrl_c_cancels_the_run(login: Login) -> None:
    """One that waits for nodes which another job has."""
    folder = f"{login.home}/bandwidth"
    file = environment(login, SYSTEM_PYTHON)
    login.slurm("sbatch", "--exclusive", "--nodes=3", "--time=5", "--job-name=other", "--wrap=sleep 300")
    argv = login.argv("site", "check", "virtual:main", "--bandwidth", "--by", "mpi", "--environment", file)
    process = login.cluster.popen("login", argv, cwd=folder)
    login.cluster.wait_for(lambda: queued(login), 60, "the run to be queued")
    process.send_signal(signal.SIGINT)
    _, words = process.popen.communicate(timeout=90)
    assert process.returncode == 130 and "interrupted; the run was canceled" in words, words
    login.cluster.wait_for(lambda: not queued(login), 60, "the run to leave the queue")
    (run,) = login.json("ls", cwd=folder)["runs"]
    assert run["state"] in ("Canceled", "CancelRequested")


def queued(login: Login) -> bool:
    return "site-check_" in login.slurm("squeue", "--noheader", "--user=alice", "--format=%j")
