"""``hpcrun explain`` of runs that ended badly on the real cluster, or took less than they had asked for."""

from __future__ import annotations

import pytest

from tests.cluster.fixtures import BootCluster
from tests.integration.support import Document, Login
from tests.integration.test_slurm_explain import explained, text
from tests.integration.test_slurm_states import fill_the_cluster

pytestmark = pytest.mark.cluster

STAYS = {"command": "echo begun; sleep 600", "resources": {"sbatch": {"no-requeue": True}}}


def says(*lines: str) -> list[str]:
    """A payload that prints this, and fails."""
    return ["python3", "-c", f"import sys; print({chr(10).join(lines)!r}, file=sys.stderr); sys.exit(1)"]


def until_known(login: Login, run: Document) -> Document:
    """Wait until Slurm's books have what the run took, which may be seconds after its end."""
    seen: list[Document] = []

    def known() -> bool:
        seen[:] = [login.show(run)]
        return bool(seen[0]["usage"])

    login.cluster.wait_for(known, 60, "sacct to know what the run took")
    usage: Document = seen[0]["usage"]
    return usage


def test_a_run_that_was_preempted(login: Login) -> None:
    """By bob's job in a partition that goes first; a run that may be requeued would wait again."""
    run = login.submit(STAYS, "-t", login.add_site("open", partitions={"preempt": {}}), "-p", "preempt")
    login.until_logged(run, "begun")
    fill_the_cluster(login)
    (ended,) = login.wait(run)
    assert (ended["state"], ended["reason"]) == ("Failed", "Preempted")
    why = explained(login, ended)
    assert why["cause"] == "Preempted"
    assert "to make room for a job that goes first" in why["words"] and "It ran on node" in why["words"]
    assert "a partition or QOS whose jobs are not preempted" in why["next"][0]


def test_a_run_that_was_preempted_and_waits_again(login: Login) -> None:
    site = login.add_site("open", partitions={"preempt": {}})
    run = login.submit({"command": "echo begun; sleep 600"}, "-t", site, "-p", "preempt")
    login.until_logged(run, "begun")
    fill_the_cluster(login)
    seen: list[Document] = []

    def waits() -> bool:
        seen[:] = [login.show(run)]
        return bool(seen[0]["state"] == "Queued" and seen[0]["reason"])

    login.cluster.wait_for(waits, 60, f"{run['id']} to be queued again")
    why = explained(login, run)
    assert why["cause"] == "Waiting"
    assert "was requeued" in why["words"] and "Slurm expects it to start at" in why["words"]


def test_a_node_that_failed(login: Login) -> None:
    """slurmd is killed, and an administrator notices."""
    run = login.submit(STAYS)
    login.until_logged(run, "begun")
    node = login.until_state(run, "Running")["nodes"]
    login.cluster.daemon("slurmd", node).kill()
    down = ["scontrol", "update", f"nodename={node}", "state=down", "reason=broken"]
    login.cluster.run("ctl", down, user="root")
    (ended,) = login.wait(run)
    assert (ended["state"], ended["reason"]) == ("Failed", "NodeFail")
    why = explained(login, ended)
    assert why["cause"] == "NodeFail"
    assert f"It ran on {node}" in why["words"]
    assert f"scontrol show node {node}" in text(why["next"])
    assert f"resources.sbatch.exclude={node}" in text(why["next"])


def test_a_disk_that_is_full(login: Login) -> None:
    """A real one, of 5 MB."""
    fills = "with open('/small/model.pt', 'wb', buffering=0) as f:\n    while True: f.write(bytes(1 << 20))"
    login.cluster.run("login", ["chmod", "1777", "/small"], user="root")
    project = login.project({"train.py": fills})
    run = login.finish({"command": ["python3", "train.py"]}, project=project)
    why = explained(login, run)
    assert why["cause"] == "DiskFull"
    assert "A disk was full" in why["words"]
    assert why["evidence"][0] == "train.py:2: while True: f.write(bytes(1 << 20))"
    assert "No space left on device" in why["evidence"][-1]


def test_a_port_that_is_taken(login: Login) -> None:
    """A real one: something else of the job listens on it already."""
    binds = (
        "import socket\n"
        "first, second = socket.socket(), socket.socket()\n"
        "first.bind(('127.0.0.1', 0)); first.listen()\n"
        "second.bind(first.getsockname())\n"
    )
    project = login.project({"train.py": binds})
    why = explained(login, login.finish({"command": ["python3", "train.py"]}, project=project))
    assert why["cause"] == "AddressInUse"
    assert why["evidence"][0] == "train.py:4: second.bind(first.getsockname())"
    assert "$MASTER_PORT" in why["next"][0]


@pytest.mark.parametrize(
    ("cause", "lines", "help_"),
    [
        ("DiskFull", ["OSError: [Errno 122] Disk quota exceeded: 'outputs/model.pt'"], "quota -s"),
        (
            "GpuMemory",
            [
                "Traceback (most recent call last):",
                '  File "/opt/torch/site-packages/torch/nn/modules/linear.py", line 125, in forward',
                "    return F.linear(input, self.weight, self.bias)",
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
                " capacity of 39.39 GiB of which 1.06 GiB is free.",
            ],
            "a smaller batch",
        ),
        (
            "Nccl",
            [
                "node1:812:845 [0] misc/socket.cc:484 NCCL WARN socketStartConnect: Connect to 10.1.0.2"
                "<47581> failed : Software caused connection abort",
                "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled"
                " system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.26.2",
            ],
            "NCCL_DEBUG: INFO",
        ),
    ],
)
def test_what_needs_gpus_or_quotas(cause: str, lines: list[str], help_: str, login: Login) -> None:
    """Fakes: the cluster has neither, so the payload prints what a program prints that meets them."""
    why = explained(login, login.finish({"command": says(*lines)}))
    assert why["cause"] == cause
    assert lines[-1] in why["evidence"]
    assert help_ in text(why["next"])


@pytest.mark.parametrize(
    ("setting", "words", "allowed"),
    [
        ("resources.account=nobody", "Invalid account", "account lab (QOS: high, normal)"),
        ("resources.qos=golden", "Invalid qos", "account lab (QOS: high, normal)"),
        ("resources.partition=nowhere", "Invalid partition", "short (time 00:10:00, 3 nodes)"),
        ("resources.nodes=50", "node configuration", "main (3 nodes of 4 CPUs, 4000M, gpu:fake:2)"),
    ],
)
def test_what_is_allowed_is_named(setting: str, words: str, allowed: str, login: Login) -> None:
    """When Slurm refuses, and ever after: explain asks nobody."""
    login.add_site("open", partitions=None)
    refused = login.hpcrun("run", "-t", "open", "--set", setting, "--", "true", check=False)
    assert refused.returncode == 6 and allowed in refused.stderr
    login.cluster.daemon("slurmctld").stop()
    why = login.json("explain", "@-1")
    assert why["cause"] == "Rejected"
    assert words in text(why["evidence"])
    assert allowed in why["next"][0]


def test_an_array_that_is_too_long(login: Login) -> None:
    """hpcrun asks for none itself; a site's own options may."""
    login.add_site("arrays", scheduler={"sbatch": {"array": "0-5000"}})
    assert login.hpcrun("run", "-t", "arrays", "--", "true", check=False).returncode == 6
    why = login.json("explain", "@-1")
    assert "Invalid job array" in text(why["evidence"])
    assert "The highest index that an array may have here is 1000." in why["next"][0]


@pytest.mark.slow
def test_how_far_a_run_came_in_its_time(login: Login) -> None:
    run = login.submit({"command": "echo 'epoch 4/16: loss 0.5'; sleep 600"}, "--set", "resources.time=1m")
    login.until_logged(run, "epoch")
    over = ["scontrol", "update", f"jobid={run['job_id']}", "endtime=now"]
    login.cluster.run("ctl", over, user="root")
    (ended,) = login.wait(run)
    why = explained(login, ended)
    assert why["cause"] == "Timeout"
    assert "It had come to epoch 4 of 16: all of it takes about " in why["words"]
    assert "epoch 4/16: loss 0.5" in why["evidence"]


def test_what_a_run_used(login: Login) -> None:
    """Its CPU time and memory by Slurm's own accounts: of all steps and nodes together."""
    eats = "import time; a = bytearray(100 << 20)\nwhile time.process_time() < 2: time.sleep(0)"
    config = {
        "command": ["python3", "-c", eats],
        "resources": {"memory": "400M", "cpus_per_task": 2},
        "distributed_job_config": {"type": "mpi", "node_count": 2},
    }
    run = login.finish(config)
    assert run["state"] == "Completed"
    usage = until_known(login, run)
    assert 3.9 <= usage["cpu_seconds"] < 30
    assert 2 <= usage["elapsed_seconds"] < 60
    assert (usage["allocated_cpus"], usage["allocated_nodes"]) == (4, 2)
    assert usage["requested_memory_bytes"] == 800 << 20
    assert 100 << 20 < usage["max_rss_bytes"] < 200 << 20
    assert 200 << 20 < usage["memory_bytes"] < 400 << 20
    why = explained(login, run)
    assert " of 5m (" in why["used"] and "% of 4 CPUs, 2" in why["used"] and " of 800.0 MiB (" in why["used"]
    shown = login.hpcrun("show", run["id"]).stdout
    assert f"used        {why['used']}\n" in shown


def test_what_a_run_used_is_kept(login: Login) -> None:
    """Of one that failed, too; nobody is asked again."""
    eats = "import time, sys; a = bytearray(100 << 20); time.sleep(3); sys.exit(3)"
    run = login.finish({"command": ["python3", "-c", eats]})
    assert (run["reason"], run["exit_code"]) == ("BadExit", 3)
    assert until_known(login, run)["memory_bytes"] > 100 << 20
    login.cluster.daemon("slurmctld").stop()
    assert " of 300.0 MiB (" in login.json("explain", run["id"])["used"]


@pytest.mark.slow
def test_on_an_old_slurm(boot_cluster: BootCluster) -> None:
    """22.05 knows all that is asked for, and says it in the same form."""
    login = Login(boot_cluster(slurm="bookworm", nodes=1))
    eats = "import time, sys; a = bytearray(100 << 20); time.sleep(3); sys.exit(3)"
    run = login.finish({"command": ["python3", "-c", eats]})
    usage = until_known(login, run)
    assert usage["memory_bytes"] > 100 << 20 and usage["requested_memory_bytes"] == 300 << 20
    assert " of 300.0 MiB (" in explained(login, run)["used"]
    refused = login.hpcrun("run", "-t", "virtual", "-A", "nobody", "--", "true", check=False)
    assert "You may use: account lab (QOS: high, normal)." in refused.stderr
    first = login.submit({"command": "sleep 600", "resources": {"exclusive": True}})
    login.cluster.wait_for(lambda: login.show(first)["state"] == "Running", 60, "the first to run")
    run = login.submit({"command": "true"})
    login.cluster.wait_for(lambda: login.show(run)["expected_start"], 60, "an estimate of Slurm's")
    assert "Slurm expects it to start at" in explained(login, run)["words"]
