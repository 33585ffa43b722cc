"""``hpcrun explain`` on the real cluster: each trouble is made, and named, with what would help."""

from __future__ import annotations

import re

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login
from tests.integration.test_slurm_states import SAVES, fill_the_cluster

pytestmark = pytest.mark.cluster

PLAIN = {"python": {"interpreter_path": SYSTEM_PYTHON}}


def explained(login: Login, run: Document) -> Document:
    """What hpcrun explain says of a run; the words people read are the same."""
    found = login.json("explain", run["id"])
    shown = login.hpcrun("explain", run["id"]).stdout
    # Slurm may work it out, or anew, from one look to the next.
    moving = r" Slurm expects it to start at [-: \d]*(\(in [^)]*\))?\."
    assert f"{found['cause']}: {re.sub(moving, '', found['words'])}" in re.sub(moving, "", shown)
    assert all(line in shown for line in (*found["evidence"], *found["next"]))
    return found


def text(lines: list[str]) -> str:
    return "\n".join(lines)


def test_a_module_that_is_missing(login: Login) -> None:
    """The module's package, the place in the script, and where to add it for this environment."""
    project = login.project({"train.py": "import os\n\nimport sklearn\n", "requirements.txt": "numpy\n"})
    run = login.finish({"script": "train.py", "environment": PLAIN}, project=project)
    why = explained(login, run)
    assert (why["cause"], why["state"], why["reason"]) == ("MissingModule", "Failed", "BadExit")
    assert "no module sklearn" in why["words"] and "scikit-learn" in why["words"]
    assert "train.py:3: import sklearn" in why["evidence"]
    assert f"{SYSTEM_PYTHON} -m pip install scikit-learn" in text(why["next"])
    assert "write scikit-learn into requirements.txt" in text(why["next"])
    short = run["id"].rpartition("_")[2]
    assert f"hpcrun explain {short}" in login.hpcrun("show", run["id"]).stdout
    assert f"why: hpcrun explain {short}" in login.hpcrun("wait", run["id"], check=False).stdout


def test_a_name_that_is_not_defined(login: Login) -> None:
    """The script's own line, from the run's copy of the code: what is edited since does not count."""
    project = login.project({"train.py": "def step():\n    return lerning_rate * 2\n\nstep()\n"})
    run = login.finish({"script": "train.py", "environment": PLAIN}, project=project)
    login.write(f"{project}/train.py", "# mended\n")
    why = explained(login, run)
    assert why["cause"] == "ScriptError"
    assert "NameError at train.py:2" in why["words"]
    assert why["evidence"][0] == "train.py:2: return lerning_rate * 2"
    assert "NameError: name 'lerning_rate' is not defined" in why["evidence"][-1]


def test_too_much_memory(login: Login) -> None:
    """Without cgroups Slurm only says it in the job's log: what was asked, where it was, what to ask next."""
    hungry = "import time; data = bytearray(400 << 20); print('begun', flush=True); time.sleep(600)"
    run = login.finish({"command": ["python3", "-c", hungry], "resources": {"memory": "100M"}})
    why = explained(login, run)
    assert why["cause"] == "OutOfMemory"
    assert "Asked: 100M a node. It was at 40" in why["words"] and "MiB" in why["words"]
    assert "exceeded memory limit" in text(why["evidence"])
    assert "--mem 700M" in why["next"][0]


@pytest.mark.slow
def test_too_much_time(login: Login) -> None:
    run = login.submit({"command": ["python3", "-c", SAVES]}, "--set", "resources.time=1m")
    login.until_logged(run, "begun")
    over = ["scontrol", "update", f"jobid={run['job_id']}", "endtime=now"]
    login.cluster.run("ctl", over, user="root")
    (ended,) = login.wait(run)
    why = explained(login, ended)
    assert why["cause"] == "Timeout"
    assert "its time limit of 1m, after " in why["words"]
    assert "--time 00:02:00" in why["next"][0]


def test_an_interpreter_that_is_missing(login: Login) -> None:
    run = login.finish(
        {"command": "true", "environment": {"python": {"interpreter_path": "/opt/no/such/python"}}}
    )
    why = explained(login, run)
    assert (why["cause"], why["reason"]) == ("Environment", "Environment")
    assert "there is no interpreter /opt/no/such/python on node" in why["words"]


def test_a_program_that_is_missing(login: Login) -> None:
    why = explained(login, login.finish({"command": "no-such-program --quickly"}))
    assert why["cause"] == "ProgramMissing"
    assert "no program no-such-program" in why["words"]


def test_a_submission_that_slurm_refuses(login: Login) -> None:
    """Slurm's own words, and what was said about them at the time."""
    done = login.hpcrun("run", "-t", "virtual", "-A", "nobody", "--", "true", check=False)
    assert done.returncode == 6
    why = login.json("explain", "@-1")
    assert (why["cause"], why["reason"]) == ("Rejected", "Rejected")
    assert "Invalid account" in text(why["evidence"])
    assert why["next"][0] == "You may use: account lab (QOS: high, normal)."


def test_a_run_that_waits(login: Login) -> None:
    """Slurm's word for it, in words."""
    fill_the_cluster(login)
    run = login.submit({"command": "true"})
    login.until_state(run, "Queued", "Resources")
    why = explained(login, run)
    assert (why["cause"], why["state"]) == ("Waiting", "Queued")
    assert "not free yet" in why["words"]
    assert why["evidence"] == ["squeue: Resources"]
    login.slurm("scontrol", "hold", run["job_id"])
    login.until_state(run, "Queued", "JobHeldUser")
    assert f"scontrol release {run['job_id']}" in text(explained(login, run)["next"])


@pytest.mark.parametrize("whole", [False, True], ids=["code", "folder"])
def test_a_work_folder_that_was_deleted(login: Login, whole: bool) -> None:
    """Taken away while the job waited: of its code alone, and with all that was to hold its logs."""
    login.add_site("scratch", root=f"{login.home}/scratch")
    blocker = fill_the_cluster(login)
    run = login.submit({"command": "true"}, "-t", "scratch")
    login.until_state(run, "Queued", "Resources")
    gone = run["run_dir"] if whole else f"{run['run_dir']}/code"
    login.cluster.run("login", ["rm", "-r", gone])
    login.cluster.run("login", ["scancel", blocker], user="bob")
    (ended,) = login.wait(run)
    assert ended["state"] == "Failed"
    why = explained(login, ended)
    assert why["cause"] == "FolderMissing"
    assert ("copy of the code" in why["words"]) is not whole
    assert "the snapshot is kept" in why["next"][0]


def test_one_rank_of_four(login: Login) -> None:
    """The rank that failed is the one that is quoted, not those that were ended for it."""
    source = (
        "import os, sys, time\n"
        "print('rank', os.environ['RANK'], 'begun', flush=True)\n"
        "if os.environ['RANK'] == '2':\n"
        "    {}['batch_size']\n"
        "time.sleep(600)\n"
    )
    config = {
        "script": "train.py",
        "environment": PLAIN,
        "distributed_job_config": {"type": "pytorch", "node_count": 2, "process_count": 4},
    }
    run = login.finish(config, project=login.project({"train.py": source}))
    why = explained(login, run)
    assert why["cause"] == "ScriptError"
    assert re.search(r"The script of rank 2 on node\d failed with KeyError at train.py:4", why["words"])
    assert why["evidence"] == ["train.py:4: {}['batch_size']", "KeyError: 'batch_size'"]
    assert "--rank 2" in text(why["next"])


def test_a_run_that_completed(login: Login) -> None:
    why = explained(login, login.finish({"command": "true"}))
    assert why["cause"] == "Completed"
    assert "of the 5m asked for" in why["words"]
