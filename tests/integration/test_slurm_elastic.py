"""torchrun with an open number of nodes: a process is killed, a node's torchrun is killed, and it goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.procs import Process
from tests.integration.support import Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

TRAINS = """\
import datetime, os, pathlib, time
import torch
import torch.distributed as dist

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=20))
rank, world = dist.get_rank(), dist.get_world_size()
print("on", os.uname().nodename, "of", world, flush=True)
stop = torch.zeros(1)
while not stop:
    time.sleep(0.05)
    stop = torch.tensor([float(rank == 0 and pathlib.Path("outputs/enough").exists())])
    dist.all_reduce(stop)
print("done", flush=True)
dist.destroy_process_group()
"""


def elastic_config() -> Document:
    """Two processes on two nodes, which go on until they are told."""
    elastic = {"type": "pytorch", "launcher": "torchrun", "min_nodes": 1, "max_nodes": 2, "max_restarts": 2}
    dist = {**elastic, "communication_backend": "gloo"}
    resources = {"tasks_per_node": 1, "memory": "1G"}
    return {"script": "train.py", "distributed_job_config": dist, "resources": resources}


def begin(login: Login) -> Document:
    login.project({"train.py": TRAINS})
    return login.submit(elastic_config())


def the_one(login: Login, node: str, fits: Callable[[bytes, bytes], bool]) -> Process:
    """Alice's process on a node, by its command line and its environment."""
    found = []
    for each in login.cluster.processes(node, user="alice"):
        try:
            proc = Path(f"/proc/{each.pid}")
            if fits((proc / "cmdline").read_bytes(), (proc / "environ").read_bytes()):
                found.append(each)
        except OSError:  # it has ended
            continue
    (process,) = found
    return process


def node_of(login: Login, run: Document, rank: int) -> str:
    return login.log(run, rank).split()[1]


def is_enough(login: Login, *runs: Document) -> None:
    for run in runs:
        login.write(f"{run['run_dir']}/code/outputs/enough", "")


@pytest.mark.slow
def test_one_is_killed_and_the_others_go_on(login: Login) -> None:
    """A process: torchrun starts all of them again. The torchrun of the second node: the first goes on alone.
    The torchrun of the first, where all meet: that is the end."""
    process, agent, first = (begin(login) for _ in range(3))
    for run in (process, agent, first):
        for rank in (0, 1):
            login.until_logged(run, "of 2", rank)

    def of(run: Document, *words: bytes) -> Callable[[bytes, bytes], bool]:
        return lambda line, environ: run["id"].encode() in environ and all(word in line for word in words)

    torchrun = b"from torch.distributed.run import main"
    the_one(login, node_of(login, process, 1), of(process, b"train.py")).signal(signal.SIGKILL)
    the_one(login, node_of(login, agent, 1), of(agent, torchrun)).signal(signal.SIGKILL)
    the_one(login, node_of(login, first, 0), of(first, torchrun)).signal(signal.SIGKILL)
    login.cluster.wait_for(lambda: login.log(process, 0).count("of 2\n") == 2, 90, "a second try")
    login.cluster.wait_for(lambda: "of 1\n" in login.log(agent, 0), 90, "a try of one")
    is_enough(login, process, agent)
    process, agent, first = login.wait(process, agent, first, timeout=120)
    assert how_it_ended(process) == ("Completed", "", 0)
    assert how_it_ended(agent) == ("Completed", "", 0)
    node = node_of(login, agent, 1)
    assert f"torchrun on {node} was ended by signal 9: the others go on without it" in login.read(
        agent, "system_logs/job.txt"
    )
    assert how_it_ended(first)[0] == "Failed"
