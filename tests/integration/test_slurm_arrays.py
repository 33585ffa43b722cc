"""Many runs in one job array: each a run as any other, all of them submitted once, whatever comes between."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

MODULE = """\
import os, pathlib, time

def work(x):
    with open("/home/alice/starts", "a") as file:
        file.write(f"{x} {os.environ['HPCRUN_RUN_ID']} {os.environ['HPCRUN_JOB_ID']}\\n")
    print("x is", x)
    if x == 3:
        raise ValueError("three")
    while x >= 100 and not pathlib.Path("/home/alice/go").exists():
        time.sleep(0.1)
    return x * x
"""

PROGRAM = """\
import json, sys
from hpcrun import Experiment, Workspace
from hpcrun.errors import HpcrunError
import ours

target, limit, *values = sys.argv[1:]
environment = {"python": {"interpreter_path": "/usr/bin/python3"}}
try:
    runs = Experiment(Workspace.from_config(), "many").map(
        ours.work, map(int, values), compute_target=target, environment=environment,
        max_concurrent=int(limit) or None,
    )
    print(json.dumps([run.id for run in runs]))
except HpcrunError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def here(login: Login) -> dict[str, str]:
    """The workspace is her home, as it is for what she types there."""
    return {"HPCRUN_WORKSPACE": login.home}


def submit(login: Login, *values: int, target: str = "virtual", limit: int = 0) -> list[Document]:
    project = login.project({"ours.py": MODULE, "program.py": PROGRAM})
    argv = [sys.executable, "program.py", target, str(limit), *map(str, values)]
    ids = json.loads(login.cluster.run("login", argv, cwd=project, env=here(login), timeout=240).stdout)
    return [login.json("show", run_id) for run_id in ids]


def starts(login: Login) -> list[list[str]]:
    path = f"{login.home}/starts"
    return [line.split() for line in login.cat(path).splitlines()] if login.exists(path) else []


def test_runs_of_an_array_are_runs(login: Login) -> None:
    """Of three arrays, since the site says that no index is above 3: folder, log, end, explanation, rerun."""
    login.add_site("small", scheduler={"max_array_size": 4})
    runs = submit(login, *range(10), target="small")
    bases = [run["job_id"].partition("_")[0] for run in runs]
    assert [run["job_id"].partition("_")[2] for run in runs] == list("0123012301")
    assert len(set(bases)) == 3 and bases == sorted(bases)

    ended = login.wait(*runs)
    assert [how_it_ended(run)[0] for run in ended] == ["Completed"] * 3 + ["Failed"] + ["Completed"] * 6
    assert [login.log(run) for run in ended[:3]] == ["x is 0\n", "x is 1\n", "x is 2\n"]
    for run in ended:
        said = login.read(run, "system_logs/job.txt")
        assert f"attempt 1 of {run['id']} as job {run['job_id']}" in said
        assert run["usage"]["elapsed_seconds"] >= 0
    assert sorted(int(x) for x, *_ in starts(login)) == list(range(10))
    told = login.hpcrun("explain", runs[3]["id"]).stdout
    assert "The function failed with ValueError at ours.py" in told
    again = login.json("rerun", runs[5]["id"], "--wait")
    assert again["state"] == "Completed" and "_" not in again["job_id"]
    listed = login.json("ls")["runs"]
    assert {run["state"] for run in listed} == {"Completed", "Failed"} and len(listed) == 11

    assert login.exists(f"{login.home}/.hpcrun/arrays/{runs[0]['id']}/0.txt")
    login.hpcrun("archive", *(run["id"] for run in runs))
    login.hpcrun("history", "gc", "--runs", "--yes")
    assert login.slurm("ls", f"{login.home}/.hpcrun/arrays") == ""


def test_no_more_at_once_and_one_is_canceled_alone(login: Login) -> None:
    """And requeued alone, as another attempt of the same run."""
    login.cluster.reconfigure({"AuthInfo": "cred_expire=5"})  # how long a requeued job must wait
    runs = submit(login, 100, 101, 102, limit=2)
    first, second, third = runs
    login.until_state(first, "Running")
    login.until_state(second, "Running")
    waiting = login.until_state(third, "Queued", "JobArrayTaskLimit")
    assert "JobArrayTaskLimit" in login.hpcrun("explain", waiting["id"]).stdout
    login.slurm("scontrol", "requeue", first["job_id"])
    login.hpcrun("cancel", second["id"])
    login.cluster.write("/home/alice/go", "")
    ended = login.wait(*runs)
    assert [run["state"] for run in ended] == ["Completed", "Canceled", "Completed"]
    assert [attempt["number"] for attempt in ended[0]["attempts"]] == [1, 2]
    assert ended[0]["job_id"] == first["job_id"]


def test_an_answer_that_is_lost(login: Login) -> None:
    """slurmctld stops while sbatch waits for it: the array is found by its name, and nothing starts twice."""
    cluster = login.cluster
    project = login.project({"ours.py": MODULE, "program.py": PROGRAM})
    controller = cluster.daemon("slurmctld")
    controller.stop()
    argv = [sys.executable, "program.py", "virtual", "0", "1", "2"]
    process = cluster.popen("login", argv, cwd=project, env=here(login))
    cluster.wait_for(lambda: "ambiguous" in _submissions(login), 90, "the answer to be lost")
    controller.cont()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    ids = json.loads(out)
    runs = login.wait(*({"id": run_id} for run_id in ids))
    assert [run["state"] for run in runs] == ["Completed"] * 2
    assert sorted(run_id for _, run_id, _ in starts(login)) == sorted(ids)


def _submissions(login: Login) -> str:
    argv = ["sh", "-c", "cat /home/alice/.hpcrun/runs/*/run.json 2>/dev/null"]
    return login.cluster.run("login", argv, check=False).stdout


KILLED = {
    "before sbatch": "slurm.SlurmScheduler.submit = die",
    "with its answer": "old = slurm.SlurmScheduler.submit\n"
    "slurm.SlurmScheduler.submit = lambda *more: die(old(*more))",
    "one run adopted": "old = arrays.adopt\narrays.adopt = lambda *more: die(old(*more))",
    "one row of three": "old = store.History._make_run\n"
    "store.History._make_run = lambda *more: die(old(*more))",
}
"""Where whoever submits is killed, and how that is done."""


def test_whoever_submits_is_killed(login: Login) -> None:
    """Wherever that is: the next who looks has all of them sent, by one sbatch, and each starts once."""
    for number, how in enumerate(KILLED.values()):
        kill = (
            "import os, hpcrun.schedulers.slurm as slurm, hpcrun.engine.arrays as arrays\n"
            "import hpcrun.history.store as store\n"
            f"def die(*more): os.kill(os.getpid(), 9)\n{how}\n"
        )
        project = login.project({"ours.py": MODULE, "program.py": kill + PROGRAM})
        values = [str(10 * number + each) for each in (4, 5, 6)]
        argv = [sys.executable, "program.py", "virtual", "0", *values]
        done = login.cluster.run("login", argv, cwd=project, env=here(login), check=False, timeout=120)
        assert done.returncode == -9, done.stderr

    def submitted() -> bool:
        listed = login.json("ls")["runs"]
        return len(listed) == 3 * len(KILLED) and all(run["job_id"] for run in listed)

    login.cluster.wait_for(submitted, 90, "somebody to send them")
    runs = login.wait(*login.json("ls")["runs"])
    assert {run["state"] for run in runs} == {"Completed"}
    expected = [10 * number + each for number in range(len(KILLED)) for each in (4, 5, 6)]
    assert sorted(int(x) for x, *_ in starts(login)) == expected
    jobs = {(int(x) // 10, job_id.partition("_")[0]) for x, _, job_id in starts(login)}
    assert len(jobs) == len(KILLED), "one job for each three"


def test_an_old_slurm(boot_cluster: Callable[..., Cluster]) -> None:
    """22.05, whose books tell of tasks that never began on one line: each of them is found there."""
    old = Login(boot_cluster(slurm="bookworm", nodes=1))
    runs = submit(old, 1, 3, *range(100, 106), limit=2)
    ended = old.wait(*runs[:2])
    assert [run["state"] for run in ended] == ["Completed", "Failed"]
    for run in runs[4:]:
        old.hpcrun("cancel", run["id"])
    old.cluster.write("/home/alice/go", "")
    ended = old.wait(*runs)
    assert [run["state"] for run in ended[2:]] == ["Completed"] * 2 + ["Canceled"] * 4
    assert [run["job_id"].partition("_")[2] for run in ended] == list("01234567")


def test_a_refusal_is_every_runs(login: Login) -> None:
    runs = submit(login, 1, 2, target="virtual:short")
    login.wait(*runs)
    login.add_site("wrong", partitions={"gone": {}}, default_partition="gone")
    project = f"{login.home}/project"
    argv = [sys.executable, "program.py", "wrong", "0", "1", "2"]
    kind, words = json.loads(
        login.cluster.run("login", argv, cwd=project, env=here(login), timeout=120).stdout
    )
    assert kind == "SubmissionRejected" and "invalid partition" in words
    listed = login.json("ls")["runs"]
    assert sorted(run["reason"] for run in listed) == ["", "", "Rejected", "Rejected"]
    assert SYSTEM_PYTHON  # what the environment of all of them names
