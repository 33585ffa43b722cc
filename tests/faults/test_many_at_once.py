"""Many commands at once, on one host and on two: one job, one run, and no row lost (faults 4, 39)."""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import calls
from tests.integration.support import Login

pytestmark = pytest.mark.cluster

COUNTING = '#!/bin/bash\necho call >>/home/alice/calls\nexec /usr/bin/sbatch "$@"\n'
LOSING = (
    "#!/bin/bash\necho call >>/home/alice/calls\n"
    "if [ $(wc -l </home/alice/calls) = 1 ]; then\n"
    '    echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2\n'
    "    exit 1\nfi\n"
    'exec /usr/bin/sbatch "$@"\n'
)
RUN = {
    "experiment": "many",
    "command": "echo $HPCRUN_RUN_ID >>/home/alice/starts",
    "compute_target": "virtual",
}

# Many processes that have loaded all they need, and then type a command at the same moment.
AT_ONCE = """
import os, sys
import hpcrun.cli.submit, hpcrun.cli.wait, hpcrun.cli.show, hpcrun.config.load, hpcrun.engine.prepare
import hpcrun.engine.submit, hpcrun.schedulers.submitit_executor, hpcrun.workspace, jinja2
from hpcrun.__main__ import entry

count, arguments = int(sys.argv[1]), sys.argv[2:]
wait, go = os.pipe()
children = []
for i in range(count):
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(wait, 1)  # ends for all of them when the other end is closed
        sys.argv = ["hpcrun", *(word.replace("{i}", str(i)) for word in arguments)]
        entry()
    children.append(pid)
os.close(go)
print(*sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children), file=sys.stderr)
"""

# Killed when it has written down that sbatch's answer was lost.
KILLED = """
import os, signal, sys
import hpcrun.engine.submit as submit
submit.settle = lambda *args, **more: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["hpcrun", "submit", "run.yaml", "--key", "k"]
from hpcrun.__main__ import entry
entry()
"""

SUBMIT = ("submit", "run.yaml", "--key", "k")


@pytest.fixture
def alice(cluster: Cluster) -> Login:
    login = Login(cluster)
    login.write("/home/alice/project/run.yaml", json.dumps(RUN))
    return login


def at_once(login: Login, count: int, *arguments: str, host: str = "login", sbatch: str = COUNTING) -> str:
    """What so many processes print that type a command at the same moment; all of them end with 0."""
    login.write("/home/alice/bin/sbatch", sbatch, mode=0o755)
    done = login.cluster.run(
        host,
        [sys.executable, "-c", AT_ONCE, str(count), *arguments],
        cwd="/home/alice/project",
        env={"PATH": "/home/alice/bin:/usr/local/bin:/usr/bin:/bin"},
        timeout=300,
    )
    codes = done.stderr.strip().splitlines()[-1].split()
    assert codes == ["0"] * count, done.stderr
    return done.stdout


def one_run(login: Login) -> None:
    """There is one run, it has completed, and its payload ran once."""
    [row] = login.json("ls", cwd="/home/alice/project")["runs"]
    [run] = login.json("wait", row["id"], cwd="/home/alice/project")["runs"]
    assert run["state"] == "Completed"
    assert starts(login) == [run["id"]]
    found = login.slurm(
        "sacct", "-X", "-n", "-P", "-S", "now-1hours", f"--name={run['id']}", "--format=JobID"
    )
    assert found.split() in ([run["job_id"]], [])  # accounting lags


def starts(login: Login) -> list[str]:
    path = login.cluster.home() / "starts"
    return sorted(path.read_text().split()) if path.exists() else []


def test_twenty_processes_submit_with_one_key(alice: Login) -> None:
    """Fault 4: one of them submits; all of them name the same run."""
    said = re.findall(r"^(already )?submitted (?:as )?([\w-]+)", at_once(alice, 20, *SUBMIT), re.MULTILINE)
    assert sorted(already for already, _ in said) == [""] + ["already "] * 19
    assert len({run_id for _, run_id in said}) == 1
    assert calls(alice.cluster.home() / "calls") == 1
    one_run(alice)


def test_twenty_processes_settle_one_submission(alice: Login) -> None:
    """Fault 4: the answer was lost, and there is no job: of twenty that find out, one submits it again."""
    alice.write("/home/alice/bin/sbatch", LOSING, mode=0o755)
    done = alice.cluster.run(
        "login",
        [sys.executable, "-c", KILLED],
        cwd="/home/alice/project",
        env={"PATH": "/home/alice/bin:/usr/local/bin:/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == -9, done.stderr
    at_once(alice, 20, "wait", "@-1", sbatch=LOSING)
    assert calls(alice.cluster.home() / "calls") == 2
    one_run(alice)


def test_two_hosts_share_a_workspace(alice: Login) -> None:
    """Fault 39: commands of one user on two hosts, in one folder, with the journal that networks get.

    The shared folder is one file system of this machine's: it plays two hosts' names and process numbers, and
    not a network's delays. That a network is seen as one is played by a table of mounts, a fake.
    """
    project = "/home/alice/project"
    alice.hpcrun("init", cwd=project)
    make_rollback = (
        "import sqlite3; c = sqlite3.connect('.hpcrun/history.db');"
        " print(c.execute('PRAGMA journal_mode = DELETE').fetchone()[0])"
    )
    words = alice.cluster.run("login", [sys.executable, "-c", make_rollback], cwd=project).stdout
    assert words == "delete\n"
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(
                at_once, alice, 8, "submit", "run.yaml", "--key", key, "--tag", f"host={host}", host=host
            )
            for host, key in (("login", "{i}"), ("ctl", "{i}"))
        ]
        for future in futures:
            future.result()
    assert calls(alice.cluster.home() / "calls") == 8
    rows = alice.json("ls", cwd=project)["runs"]
    assert sorted(row["number"] for row in rows) == [1, 2, 3, 4, 5, 6, 7, 8]
    alice.json("wait", *(row["id"] for row in rows), cwd=project)
    assert starts(alice) == sorted(row["id"] for row in rows)
    assert alice.json("history", "verify", cwd=project)["sound"] is True
    assert not [*Path(alice.cluster.home() / "project/.hpcrun").glob("history.db-wal")]
