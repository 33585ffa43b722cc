"""One process of many fails: the others are ended, and the first failure is the one that is told."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended
from tests.integration.test_slurm_distributed import BY_MPIRUN, OVERSUBSCRIBED
from tests.integration.test_slurm_explain import explained, text

pytestmark = pytest.mark.cluster

SOON = 20.0
"""Seconds within which the others are ended; it takes one or two."""

MPI = """\
import os, sys, time
from mpi4py import MPI

world = MPI.COMM_WORLD
rank = world.Get_rank()
world.Barrier()


def fail():
    open("outputs/failed", "a").write(f"{time.time()}\\n")


HOW
world.Barrier()
"""

TORCH = """\
import os, time
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank, one = dist.get_rank(), torch.ones(1)
dist.all_reduce(one)
time.sleep(1)  # its threads let go of it: a process that ends sooner may be aborted


def fail():
    open("outputs/failed", "a").write(f"{time.time()}\\n")


HOW
dist.all_reduce(one)
"""

RAISES = "if rank == 3:\n    fail()\n    raise ValueError('no good')\n"
TRACED = """\
import sys, traceback
if rank == 3:
    fail()
    try:
        raise ValueError('no good')
    except ValueError:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
"""
"""The same without taking torch down, which at times ends by abort()."""

KILLED = "if rank == 3:\n    fail()\n    os.kill(os.getpid(), 9)\n"
EARLY = "if rank == 3:\n    fail()\n    os._exit(0)\n"
TWO = "if rank in (3, 5):\n    fail()\n    raise ValueError(f'no good in {rank}')\n"
ABORTS = "if rank == 3:\n    fail()\n    print('I give up', flush=True)\n    world.Abort(7)\n"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"


def mpi(login: Login, name: str, how: str) -> Document:
    """Eight processes on two nodes, at a barrier when something happens to one of them."""
    login.project({f"{name}.py": MPI.replace("HOW", how)})
    return {
        "script": f"{name}.py",
        "distributed_job_config": {"type": "mpi", "node_count": 2, "process_count_per_node": 4},
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
    }


def torch(login: Login, name: str, how: str) -> Document:
    login.project({f"{name}.py": TORCH.replace("HOW", how)})
    """Four, each of which takes a second of CPU time to begin."""
    dist = {"type": "pytorch", "process_count": 4, "node_count": 2, "communication_backend": "gloo"}
    return {"script": f"{name}.py", "distributed_job_config": dist, "resources": {"memory": "3G"}}


def node_of(run: Document, rank: int, of: int = 8) -> str:
    """The name of the node that a rank was on, of two."""
    first, last = run["nodes"].removeprefix("node[").removesuffix("]").replace("-", ",").split(",")
    return f"node{first if 2 * rank < of else last}"


def seconds_to_end(login: Login, run: Document) -> float:
    """From the moment at which a process failed, by its own clock, to the end of them all, by the job's."""
    status = login.json("show", run["id"])
    ended = datetime.fromisoformat(status["ended"].replace("Z", "+00:00")).timestamp()
    return ended - float(login.read(run, "outputs/failed").splitlines()[0])


def finish(login: Login, **configs: Document) -> dict[str, Document]:
    """The runs at their end, one after the other: who was first of two on different nodes can be told only
    where these have time for it."""
    return {name: login.finish(config, timeout=300) for name, config in configs.items()}


def is_told(login: Login, run: Document, rank: int, error: str, of: int = 8) -> None:
    """In wait, show and explain: the rank, its node, its own traceback."""
    for told in (login.hpcrun("wait", run["id"], check=False), login.hpcrun("show", run["id"])):
        place = f"rank {rank} on {node_of(run, rank, of)}: "
        # The second: it had raised, and was ended with the others before it was gone by itself.
        ends = ("Exited with exit code 1", "had failed when it was ended with the others")
        assert any(f"{place}{end}" in told.stdout for end in ends), told.stdout
        assert "Traceback (most recent call last):" in told.stdout and error in told.stdout
        assert "Connection" not in told.stdout
    why = explained(login, run)
    assert why["cause"] == "ScriptError"
    assert f"The script of rank {rank} on {node_of(run, rank, of)} failed with ValueError" in why["words"]
    assert why["evidence"][-1] == error and f"--rank {rank}" in text(why["next"])


def ended_early(login: Login, run: Document, of: int) -> None:
    """Rank 3 ended well, and before the others, who failed."""
    assert run["state"] == "Failed"
    assert run["message"].endswith(f"; rank 3 on {node_of(run, 3, of)} had ended before, with exit code 0")
    assert explained(login, run)["cause"] == "EndedEarly"


def test_mpi(login: Login) -> None:
    """By PMIx, whose own servers end a step at once when a process is gone that has not said farewell."""
    runs = finish(
        login,
        raises=mpi(login, "raises", RAISES),
        deaf=mpi(login, "deaf", DEAF + RAISES),
        killed=mpi(login, "killed", KILLED),
        aborts=mpi(login, "aborts", ABORTS),
        early=mpi(login, "early", EARLY),
        two=mpi(login, "two", TWO),
    )
    for name in ("raises", "deaf"):
        assert how_it_ended(runs[name]) == ("Failed", "BadExit", 1)
        is_told(login, runs[name], 3, "ValueError: no good")
    assert how_it_ended(runs["killed"]) == ("Failed", "Signal", 137)
    assert runs["killed"]["message"] == f"rank 3 on {node_of(runs['killed'], 3)}: Killed"
    why = explained(login, runs["killed"])
    assert f"rank 3 on {node_of(runs['killed'], 3)} was ended by signal SIGKILL" in why["words"]
    # Of one that calls MPI_Abort, Slurm may be the sooner to end it.
    assert how_it_ended(runs["aborts"]) in (("Failed", "BadExit", 7), ("Failed", "Signal", 137))
    if runs["aborts"]["exit_code"] == 7:
        why = explained(login, runs["aborts"])
        assert f"rank 3 on {node_of(runs['aborts'], 3)} ended with exit code 7" in why["words"]
        assert why["evidence"] == ["I give up"]
    ended_early(login, runs["early"], of=8)
    assert how_it_ended(runs["two"]) == ("Failed", "BadExit", 1)
    rank = 3 if runs["two"]["message"].startswith("rank 3 ") else 5
    is_told(login, runs["two"], rank, f"ValueError: no good in {rank}")
    for name, run in runs.items():
        assert seconds_to_end(login, run) < SOON, name


def test_mpirun(login: Login) -> None:
    """It ends the others, and has words of its own for the first."""
    login.add_site("other", scheduler=BY_MPIRUN, environment_variables=OVERSUBSCRIBED)
    runs = {}
    for name, how in (("raises", RAISES), ("killed", KILLED)):
        runs[name] = login.finish(mpi(login, name, how), "-t", "other", timeout=300)
    assert how_it_ended(runs["raises"]) == ("Failed", "BadExit", 1)
    raised = f"rank 3 on {node_of(runs['raises'], 3)}: exited with exit code 1"
    assert runs["raises"]["message"] == raised
    why = explained(login, runs["raises"])
    assert why["cause"] == "ScriptError" and why["evidence"][-1] == "ValueError: no good"
    assert runs["killed"]["state"] == "Failed"
    place = f"rank 3 on {node_of(runs['killed'], 3)}"
    assert runs["killed"]["message"].startswith(f"{place}: "), login.read(
        runs["killed"], "system_logs/job.txt"
    )
    assert place in explained(login, runs["killed"])["words"]
    for name, run in runs.items():
        assert seconds_to_end(login, run) < SOON, name


def test_pytorch(login: Login) -> None:
    """By Gloo: whoever waits for the process that failed fails as well, with a traceback of its own."""
    runs = finish(login, raises=torch(login, "raises", TRACED), early=torch(login, "early", EARLY))
    assert how_it_ended(runs["raises"]) == ("Failed", "BadExit", 1)
    is_told(login, runs["raises"], 3, "ValueError: no good", of=4)
    ended_early(login, runs["early"], of=4)
    for name, run in runs.items():
        assert seconds_to_end(login, run) < SOON, name


def test_torchrun(login: Login) -> None:
    """It ends its own node's processes, and tells which was the first of all."""
    config = torch(login, "raises", RAISES)
    config["distributed_job_config"]["launcher"] = "torchrun"
    run = login.finish(config, timeout=300)
    assert how_it_ended(run) == ("Failed", "BadExit", 1), login.read(run, "system_logs/job.txt")
    assert run["message"].startswith(f"rank 3 on {node_of(run, 3, of=4)}"), run["message"]
    why = explained(login, run)
    assert why["cause"] == "ScriptError" and why["evidence"][-1] == "ValueError: no good"
    assert seconds_to_end(login, run) < SOON


# One of the others is told that its connection is gone, and is gone itself sooner than the one that failed.
SLOW = """\
import os, pathlib, socket, sys, time, traceback

rank, port = int(os.environ["RANK"]), int(os.environ["MASTER_PORT"])
if rank == 3:
    server = socket.create_server(("", port + 1))
    pathlib.Path("outputs/open").write_text(socket.gethostname())
    other, _ = server.accept()
    traceback.print_exception(ValueError("no good"))
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    other.close()
    time.sleep(600)
elif rank == 4:
    while not (name := pathlib.Path("outputs/open")).exists() or not name.read_text():
        time.sleep(0.02)
    socket.create_connection((name.read_text(), port + 1)).recv(1)
time.sleep(600)
"""


@pytest.mark.parametrize("where", ["srun", "local"])
def test_the_first_may_be_the_last_to_go(login: Login, where: str) -> None:
    login.project({"slow.py": SLOW})
    config: dict[str, Any] = {
        "script": "slow.py",
        "distributed_job_config": {"type": "pytorch", "process_count": 8, "node_count": 2},
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
    }
    if where == "local":
        config["distributed_job_config"]["node_count"] = 1
        run = login.finish(config, "-t", "local")
        node = "login"
    else:
        run = login.finish(config)
        node = node_of(run, 3)
    assert "ConnectionResetError" in login.log(run, 4)
    assert run["message"].startswith(f"rank 3 on {node}: had failed when it was ended with the others")
    assert how_it_ended(run) == ("Failed", "BadExit", 1)
    assert explained(login, run)["evidence"] == ["ValueError: no good"]
