"""Submitting from a machine outside the cluster, through its real sshd."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import SYSTEM_PYTHON
from tests.integration.support import Login as OnTheLoginNode
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

HOSTILE = [
    *(
        "",
        " ",
        "a b",
        "$HOME",
        "$(id)",
        "`id`",
        "'",
        '"',
        "\\",
        "\\n",
        "two\nlines",
        "tab\there",
        "*",
        "~",
        "!!",
    ),
    *(
        "-n",
        "--",
        "%s",
        "%",
        "#",
        ";exit 3",
        "&",
        "|",
        ">x",
        "päth — 雪",
        "'; touch /tmp/hpcrun-canary; '",
        "\x01\x7f",
        "\r",
    ),
]
ARGUMENTS = """\
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ["ODD"]]))
"""
RANK = """\
import os, socket
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], "on", socket.gethostname())
"""


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def log(laptop: Laptop, run: dict[str, object], name: str = "std_log.txt") -> str:
    return (laptop.there(run, "user_logs") / name).read_text()


def test_a_run_from_outside(laptop: Laptop) -> None:
    """Submitted, shown while it waits and runs, and ended; one job, one start, in the site's own root."""
    laptop.config(command="echo hello; while [ ! -e /home/alice/go ]; do sleep 0.1; done")
    run = laptop.submit()
    assert (run["state"], run["run_dir"]) == ("Queued", f"/home/alice/hpc/runs/{run['id']}")
    running = laptop.until(run, "Running")
    assert (running["job_id"], running["nodes"]) == (run["job_id"], "node1")
    laptop.cluster.write("/home/alice/go", "")
    ended = laptop.ended(run)
    assert ended["exit_code"] == 0
    assert log(laptop, run) == "hello\n"
    assert {path.name for path in laptop.there(run).iterdir()} == {
        *("claim", "code", "job.sh", "metrics", "sbatch.0", "status.json", "system_logs", "user_logs"),
    }


def test_the_interpreter_is_the_sites_own(laptop: Laptop) -> None:
    """The laptop's Python has no business there, whatever environment is active here."""
    run = laptop.finish(env={"VIRTUAL_ENV": sys.prefix})
    assert run["exit_code"] == 0
    script = laptop.there(run, "job.sh").read_text()
    assert "python3" in script and sys.prefix not in script
    laptop.one_job_each(run)


def test_a_run_is_canceled(laptop: Laptop) -> None:
    laptop.config(command="sleep 600")
    run = laptop.submit()
    laptop.until(run, "Running")
    laptop.hpcrun("cancel", run["id"])
    laptop.until(run, "Canceled", "Finalizing")
    assert laptop.slurm("squeue", "--noheader", "--states=R,PD", f"--name={run['id']}") == ""


def test_a_requeued_run_keeps_its_attempts(laptop: Laptop, cluster: Cluster) -> None:
    # How long a requeued job must wait; the least that Slurm allows instead of two minutes.
    cluster.reconfigure({"AuthInfo": "cred_expire=5"})
    laptop.config(command="echo attempt $HPCRUN_ATTEMPT; while [ ! -e /home/alice/go ]; do sleep 0.1; done")
    run = laptop.submit()
    laptop.until(run, "Running")
    cluster.wait_for(lambda: "attempt 1" in log(laptop, run), 30, "the first attempt")
    cluster.run("login", ["scontrol", "requeue", run["job_id"]])
    cluster.wait_for(lambda: "attempt 2" in log(laptop, run), 120, "the second attempt")
    cluster.write("/home/alice/go", "")
    ended = laptop.ended(run)
    assert [attempt["number"] for attempt in ended["attempts"]] == [1, 2]
    assert (ended["job_id"], ended["exit_code"]) == (run["job_id"], 0)
    assert log(laptop, run) == "attempt 1\nattempt 2\n"


GOES_ON = """\
import sys, time
from pathlib import Path
from hpcrun import tracking

saved = Path("outputs/saved")
print("restart", tracking.restart_count(), saved.read_text() if saved.exists() else "", flush=True)

def save():
    saved.write_text("saved")
    sys.exit(0)

with tracking.on_preempt(save):
    while not tracking.restart_count():
        time.sleep(0.05)
"""


def test_a_run_goes_back_to_the_queue_by_itself(laptop: Laptop, cluster: Cluster) -> None:
    """Told of its limit by the module that came along with it, since the Python there has no hpcrun."""
    cluster.reconfigure({"AuthInfo": "cred_expire=5"})
    (laptop.source / "train.py").write_text(GOES_ON)
    again = {"on": ["timeout"], "max": 2, "signal": "USR2@50"}
    laptop.config(requeue=again, resources={"time": "1m"})
    run = laptop.submit()
    cluster.wait_for(lambda: "restart 1 saved" in log(laptop, run), 150, "the second attempt")
    ended = laptop.ended(run)
    assert (ended["exit_code"], ended["attempts"][-1]["number"]) == (0, 2)
    assert log(laptop, run) == "restart 0 \nrestart 1 saved\n"


def test_a_run_is_repeated_and_resumed(laptop: Laptop) -> None:
    """The other run's outputs are where the other run lies, there; a repetition has the same code."""
    laptop.config(command="echo one >outputs/ckpt")
    first = laptop.finish()
    (laptop.source / "train.py").unlink()
    again = json.loads(laptop.hpcrun("rerun", first["id"], "--json").stdout)
    laptop.ended(again)
    assert (laptop.there(again) / "code/train.py").exists()
    laptop.config(
        command='cat "$HPCRUN_RESUME_FROM/ckpt"; echo "$HPCRUN_RESUME_FROM"', resume_from=first["id"]
    )
    resumed = laptop.finish()
    assert log(laptop, resumed) == f"one\n{first['run_dir']}/code/outputs\n"


def test_hostile_arguments_and_variables_come_through(laptop: Laptop) -> None:
    (laptop.source / "train.py").write_text(ARGUMENTS)
    odd = "$(id) `id` 'x' \"y\" \\ %s\nline two"
    laptop.config(arguments=HOSTILE, environment_variables={"ODD": odd})
    run = laptop.finish()
    assert json.loads(log(laptop, run)) == [HOSTILE, odd]
    assert not Path("/tmp/hpcrun-canary").exists()


def test_two_nodes(laptop: Laptop) -> None:
    (laptop.source / "train.py").write_text(RANK)
    laptop.config(
        distributed_job_config={"type": "mpi", "node_count": 2, "process_count_per_node": 2},
        environment={"python": {"interpreter_path": SYSTEM_PYTHON}},
    )
    run = laptop.finish()
    said = [log(laptop, run, f"std_log_process_{rank:03d}.txt").strip() for rank in range(4)]
    assert said == [f"rank {rank} of 4 on node{rank // 2 + 1}" for rank in range(4)]


def test_the_same_files_work_on_the_login_node(laptop: Laptop, cluster: Cluster) -> None:
    """One site file for both: where it is typed on one of ``login_nodes``, nothing goes over SSH."""
    config = "/home/alice/nowhere/ssh_config"
    laptop.site(connection={"login_nodes": ["log?n"]})
    there = (laptop.project / "site_configs/far.yaml").read_text()
    OnTheLoginNode(cluster)
    cluster.write(
        "/home/alice/.config/hpcrun/site_configs/far.yaml",
        there.replace("ssh_config: /", f"ssh_config: {config}"),
    )
    for name in ("run.yaml", "src/train.py"):
        cluster.write(f"/home/alice/project/{name}", (laptop.project / name).read_text())
    cluster.run("login", ["mkdir", "-p", "/home/alice/project/.hpcrun"])
    argv = [sys.executable, "-m", "hpcrun", "submit", "run.yaml", "-t", "far", "--wait", "--json"]
    near = json.loads(cluster.run("login", argv, cwd="/home/alice/project", timeout=120).stdout)
    far = laptop.finish()
    assert near["state"] == "Completed"
    assert Path(near["run_dir"]).parent == Path(far["run_dir"]).parent
    assert sorted(laptop.starts()) == sorted([near["id"], far["id"]])


def test_five_at_once(laptop: Laptop) -> None:
    """Five processes submit at once, the connection and the site's store being new: five runs, five jobs."""
    began = time.monotonic()
    processes = [laptop.start("submit", "run.yaml", "-t", "far", "--json") for _ in range(5)]
    runs = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (out, err)
        runs.append(json.loads(out))
    assert time.monotonic() - began < 60
    ended = [laptop.ended(run) for run in runs]
    assert [run["exit_code"] for run in ended] == [0] * 5
    laptop.one_job_each(*ended)
