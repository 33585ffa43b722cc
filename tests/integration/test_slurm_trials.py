"""Trials by the hundred in job arrays that make their runs' folders themselves."""

from __future__ import annotations

import json
import sys

import pytest

from tests.integration.support import Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

PROGRAM = """\
import json, sys, time
from hpcrun import Environment, ScriptRunConfig, Workspace
from hpcrun.engine.trials import Trial, submit_trials
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord, new_run_id

name, target, limit, spec = sys.argv[1:]
ws = Workspace.from_config()
history = ws.history
known = [row.id for row in history.list(limit=None) if row.display_name == name]
if known:
    [parent] = known
else:
    record = RunRecord(id=new_run_id("many"), experiment="many", display_name=name, type="sweep",
                       target=target, scheduler="slurm")
    parent = history.create(record)[0].id
config = ScriptRunConfig("/home/alice/src", "train.sh", ["--rate", "1"], compute_target=target)
trials = [Trial(n, dict(p), f"{parent}/{n}") for n, p in json.loads(spec)]
began = time.monotonic()
try:
    ids = submit_trials(history, ws.targets, config, trials, parent=parent, experiment="many",
                        limit=int(limit) or None, tags={"kind": "trial"})
except HpcrunError as error:
    ids = [type(error).__name__, str(error)]
print(json.dumps([ids, parent, time.monotonic() - began]))
"""

TRAIN = """\
echo "$HPCRUN_RUN_ID $*" >>/home/alice/starts
echo "args: $*"
pwd >outputs/where.txt
while [ "$2" = wait ] && ! [ -e /home/alice/go ]; do sleep 0.1; done
[ "$2" != bad ]
"""


def here(login: Login) -> dict[str, str]:
    return {"HPCRUN_WORKSPACE": login.home}


def submit(
    login: Login,
    parameters: dict[int, Document],
    *,
    name: str = "sweep",
    target: str = "virtual",
    limit: int = 0,
    before: str = "",
    code: int = 0,
) -> list[str]:
    """The ids."""
    login.project({"train.sh": TRAIN}, "src")
    project = login.project({"program.py": before + PROGRAM})
    argv = [sys.executable, "program.py", name, target, str(limit), json.dumps([*parameters.items()])]
    done = login.cluster.run("login", argv, cwd=project, env=here(login), check=False, timeout=240)
    assert done.returncode == code, done.stderr
    return [] if code else list(json.loads(done.stdout)[0])


def starts(login: Login) -> list[list[str]]:
    path = f"{login.home}/starts"
    return [line.split() for line in login.cat(path).splitlines()] if login.exists(path) else []


def test_trials_are_runs(login: Login) -> None:
    """In three arrays, since the site says that no index is above 3: folder, log, end, explanation, rerun."""
    login.add_site("small", scheduler={"max_array_size": 4})
    parameters = {n: {"rate": 0.5 * n, "kind": "bad" if n == 3 else "a:b", "on": n == 1} for n in range(10)}
    ids = submit(login, parameters, target="small")
    assert login.json("show", ids[0])["job_id"].endswith("_0")
    ended = login.wait(*({"id": run_id} for run_id in ids))
    assert [how_it_ended(run)[0] for run in ended] == ["Completed"] * 10
    for number, run in enumerate(ended):
        wanted = f"--rate {0.5 * number} --kind {parameters[number]['kind']} --on {number == 1}"
        assert login.log(run) == f"args: {wanted}\n"
        said = login.read(run, "system_logs/job.txt")
        assert f"attempt 1 of {run['id']} as job {run['job_id']}" in said
        assert run["parameters"] == parameters[number]
        assert run["properties"]["trial"] == str(number)
        assert login.read(run, "outputs/where.txt") == f"{run['folder']}/code\n"
    assert len({run["job_id"].partition("_")[0] for run in ended}) == 3
    assert sorted(run_id for run_id, *_ in starts(login)) == sorted(ids)
    told = login.hpcrun("explain", ids[4], check=False).stdout
    assert "Completed" in told
    again = login.json("rerun", ids[5], "--wait")
    assert again["state"] == "Completed" and "_" not in again["job_id"]
    login.hpcrun("archive", *ids[:4])
    login.hpcrun("history", "gc", "--runs", "--yes")
    assert not login.exists(f"{login.home}/.hpcrun/arrays/{ids[0]}")
    assert not login.exists(f"{login.home}/.hpcrun/trials/{ids[0]}")
    assert login.exists(f"{login.home}/.hpcrun/arrays/{ids[4]}/job.sh")
    assert login.json("history", "verify")["findings"] == []


def test_no_more_at_once_and_one_is_canceled_alone(login: Login) -> None:
    """And requeued alone, as another attempt of the same run; one that never began has no folder there."""
    login.cluster.reconfigure({"AuthInfo": "cred_expire=5"})  # how long a requeued job must wait
    ids = submit(login, {n: {"rate": "wait", "n": n} for n in range(5)}, limit=2)
    first, second, third, fourth, _ = ({"id": run_id} for run_id in ids)
    login.until_state(first, "Running")
    login.until_state(second, "Running")
    assert "JobArrayTaskLimit" in login.hpcrun("explain", third["id"]).stdout
    login.json("ls")
    assert not login.exists(f"{login.home}/.hpcrun/runs/{fourth['id']}"), "nobody has looked at it"
    job = login.show(first)["job_id"]
    login.slurm("scontrol", "requeue", job)
    login.hpcrun("cancel", fourth["id"])
    login.hpcrun("cancel", fourth["id"])  # Slurm does not know it any more
    login.hpcrun("cancel", second["id"])
    login.cluster.write("/home/alice/go", "")
    ended = login.wait(*({"id": run_id} for run_id in ids))
    states = ["Completed", "Canceled", "Completed", "Canceled", "Completed"]
    assert [run["state"] for run in ended] == states
    assert [attempt["number"] for attempt in ended[0]["attempts"]] == [1, 2]
    assert ended[0]["job_id"] == job
    said = login.read(ended[0], "system_logs/job.txt")
    assert "attempt 1 of" in said and "attempt 2 of" in said
    assert not login.exists(f"{login.home}/.hpcrun/runs/{fourth['id']}/code")


def test_an_answer_that_is_lost(login: Login) -> None:
    """slurmctld stops while sbatch waits for it: the array is found by its name, and nothing starts twice."""
    cluster = login.cluster
    (alone,) = submit(login, {0: {"rate": 1}})
    login.wait({"id": alone})
    controller = cluster.daemon("slurmctld")
    controller.stop()
    spec = json.dumps([[n, {"rate": n}] for n in (1, 2, 3)])
    argv = [sys.executable, "program.py", "sweep", "virtual", "0", spec]
    process = cluster.popen("login", argv, cwd=f"{login.home}/project", env=here(login))
    cluster.wait_for(lambda: "ambiguous" in _states(login), 90, "the answer to be lost")
    controller.cont()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    ids = json.loads(out)[0]
    ended = login.wait(*({"id": run_id} for run_id in ids))
    assert [run["state"] for run in ended] == ["Completed"] * 3
    assert sorted(run_id for run_id, *_ in starts(login)) == sorted([alone, *ids]), "each once"


def _states(login: Login) -> str:
    argv = ["sh", "-c", "cat /home/alice/.hpcrun/trials/*/state.json 2>/dev/null"]
    return login.cluster.run("login", argv, check=False).stdout


KILLED = {
    "before sbatch": "slurm.SlurmScheduler.submit = die",
    "with its answer": "old = slurm.SlurmScheduler.submit\n"
    "slurm.SlurmScheduler.submit = lambda *more: die(old(*more))",
    "before the rows": "trials.Trials.tell = die",
    "with half a folder": "near.NearPlace.share = die",
}
"""Where whoever submits is killed, and how that is done."""


def test_whoever_submits_is_killed(login: Login) -> None:
    """Wherever that is: the next who looks has all of them sent, by one sbatch, and each starts once."""
    login.project({"program.py": ""})
    for number, how in enumerate(KILLED.values()):
        kill = (
            "import os, hpcrun.schedulers.slurm as slurm, hpcrun.history.trials as trials\n"
            f"import hpcrun.places.near as near\ndef die(*more): os.kill(os.getpid(), 9)\n{how}\n"
        )
        submit(login, {n: {"rate": n} for n in range(3)}, name=f"sweep{number}", before=kill, code=-9)

    def submitted() -> bool:
        listed = [run for run in login.json("ls", "--all")["runs"] if run["type"] != "sweep"]
        return len(listed) == 3 * len(KILLED) and all(run["job_id"] for run in listed)

    login.cluster.wait_for(submitted, 90, "somebody to send them")
    runs = [run for run in login.json("ls", "--all")["runs"] if run["type"] != "sweep"]
    ended = login.wait(*runs)
    assert {run["state"] for run in ended} == {"Completed"}
    assert sorted(run_id for run_id, *_ in starts(login)) == sorted(run["id"] for run in runs)
    assert len({run["job_id"].partition("_")[0] for run in ended}) == len(KILLED), "one job for each three"
    for number in range(len(KILLED)):
        assert len(submit(login, {n: {"rate": n} for n in range(3)}, name=f"sweep{number}")) == 3
    assert len([run for run in login.json("ls", "--all")["runs"] if run["type"] != "sweep"]) == 12
