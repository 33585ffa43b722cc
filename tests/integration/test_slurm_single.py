"""One process on one node: what a run leaves behind, and that what was asked for is what is submitted."""

from __future__ import annotations

import json
import sys

import pytest

from tests.integration.support import SYSTEM_PYTHON, Login, how_it_ended, job_fields, states

pytestmark = pytest.mark.cluster

RUN_ID = "exact_20260131-120000_abcdefgh"

TRAIN = """\
import json, os, sys
names = ("RUN_ID", "EXPERIMENT", "RUN_DIR", "OUTPUT_DIR", "LOG_DIR", "TARGET", "ATTEMPT")
found = {name: os.environ["HPCRUN_" + name] for name in names}
found["cwd"], found["arguments"] = os.getcwd(), sys.argv[1:]
with open(os.path.join(found["OUTPUT_DIR"], "found.json"), "w") as file:
    json.dump(found, file)
with open("logs/own.log", "w") as file:
    file.write("a log of the script's own\\n")
print("first line")
print("a word on stderr", file=sys.stderr)
print("last line")
"""

# What a job knows of itself: from Slurm, and from its environment.
ASKED = """\
scontrol show job "$SLURM_JOB_ID"
echo "cpus=$SLURM_CPUS_PER_TASK run=$HPCRUN_RUN_ID bind=${SLURM_CPU_BIND_TYPE-none}"
"""


def test_a_run_from_its_file_to_its_end(login: Login) -> None:
    """Submitted with --follow: its log on stdout, its files in the history, its name in Slurm's books."""
    project = login.project(
        {
            "run.yaml": "experiment: first\nscript: train.py\narguments: [--name, 'a  b $HOME', 0.1]\n",
            "train.py": TRAIN,
        }
    )
    told = login.hpcrun("submit", "run.yaml", "-t", "virtual", "--follow", cwd=project)

    assert told.stdout == "first line\na word on stderr\nlast line\n"
    run = login.json("show", "@-1", cwd=project)
    assert how_it_ended(run) == ("Completed", "", 0)
    assert states(run)[0] == "NotStarted" and states(run)[-2:] == ["Finalizing", "Completed"]
    assert run["target"] == "virtual" and run["nodes"] in ("node1", "node2", "node3")
    assert [output["name"] for output in run["outputs"]] == ["outputs/found.json"]

    folder = f"{project}/.hpcrun/runs/{run['id']}"
    assert run["folder"] == folder
    found = json.loads(login.read(run, "outputs/found.json"))
    assert found == {
        "RUN_ID": run["id"],
        "EXPERIMENT": "first",
        "RUN_DIR": folder,
        "OUTPUT_DIR": f"{folder}/code/outputs",
        "LOG_DIR": f"{folder}/code/logs",
        "TARGET": "virtual",
        "ATTEMPT": "1",
        "cwd": f"{folder}/code",
        "arguments": ["--name", "a  b $HOME", "0.1"],
    }
    assert login.read(run, "logs/own.log") == "a log of the script's own\n"
    # The user's log holds the user's words alone; hpcrun's own are elsewhere.
    assert login.read(run, "user_logs/std_log.txt") == told.stdout
    assert f"attempt 1 of {run['id']} as job {run['job_id']}" in login.read(run, "system_logs/job.txt")
    assert login.hpcrun("logs", "@-1", cwd=project).stdout == told.stdout
    assert [row["id"] for row in login.json("ls", cwd=project)["runs"]] == [run["id"]]

    def booked() -> str:
        asked = ["sacct", "-X", "-n", "-P", "-j", run["job_id"], "-o", "JobName,State"]
        return login.slurm(*asked).strip()

    # Slurm's books may be some seconds late.
    login.cluster.wait_for(lambda: booked() == f"{run['id']}|COMPLETED", 15, "the run's name in sacct")


def test_a_dry_run_prints_the_script_that_is_submitted(login: Login) -> None:
    """Byte for byte, hostile words included; and it leaves nothing behind."""
    config = {
        "experiment": "exact",
        "command": ["printf", "%s\\n", 'it\'s "odd" $HOME `id` \\ 雪'],
        "environment_variables": {"ODD": "two\nlines of a 'value'"},
        "resources": {"nodes": 1, "cpus_per_task": 2, "time": "90s"},
    }
    project = login.project({"run.yaml": json.dumps(config, ensure_ascii=False)})
    ask = ["submit", "run.yaml", "-t", "virtual:short", "--run-id", RUN_ID]

    shown = login.hpcrun(*ask, "--dry-run", cwd=project).stdout
    assert not login.exists(f"{project}/.hpcrun")
    run = login.json(*ask, "--wait", cwd=project)

    assert run["id"] == RUN_ID and how_it_ended(run) == ("Completed", "", 0)
    assert login.read(run, "job.sh") == shown
    assert login.slurm("scontrol", "write", "batch_script", run["job_id"], "-").rstrip() == shown.rstrip()
    assert login.log(run) == 'it\'s "odd" $HOME `id` \\ 雪\n'


def test_settings_of_slurm_in_the_environment_do_not_count(login: Login) -> None:
    """An inherited SBATCH_* or SLURM_* beats a script's own directives, unless it is scrubbed."""
    inherited = {
        "SBATCH_JOB_NAME": "not-this-name",
        "SBATCH_PARTITION": "preempt",
        "SBATCH_TIMELIMIT": "9",
        "SBATCH_REQUEUE": "1",
        "SBATCH_NO_REQUEUE": "1",
        "SBATCH_EXPORT": "NONE",
        "SLURM_CPU_BIND_TYPE": "mask_cpu:",
        "SLURM_CPUS_PER_TASK": "4",
        "HPCRUN_RUN_ID": "another",
    }
    config = {"command": ASKED, "resources": {"cpus_per_task": 2, "time": "3m"}}
    run = login.finish(config, env=inherited)

    assert how_it_ended(run) == ("Completed", "", 0)
    job = job_fields(login.log(run))
    assert (job["JobName"], job["Partition"], job["TimeLimit"]) == (run["id"], "main", "00:03:00")
    assert f"cpus=2 run={run['id']} bind=none" in login.log(run)


def test_a_run_can_be_submitted_from_inside_a_run(login: Login) -> None:
    """Nothing of the outer job leaks into the inner one, and the two are in one history."""
    inner = {"experiment": "inner", "command": ASKED, "resources": {"time": "2m"}}
    project = login.project({"inner/run.yaml": json.dumps(inner)})
    command = [sys.executable, "-m", "hpcrun", "submit", "inner/run.yaml", "-t", "virtual", "--wait"]
    outer = {
        "experiment": "outer",
        "command": command,
        "resources": {"cpus_per_task": 3, "gpus_per_node": 1},
        "distributed_job_config": {"type": "pytorch"},
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
    }
    run = login.finish(outer, project=project)

    assert how_it_ended(run) == ("Completed", "", 0), login.log(run, 0)
    rows = login.json("ls", cwd=project)["runs"]
    assert sorted(row["experiment"] for row in rows) == ["inner", "outer"]
    nested = login.json("show", next(row["id"] for row in rows if row["experiment"] == "inner"), cwd=project)
    assert how_it_ended(nested) == ("Completed", "", 0)
    job = job_fields(login.log(nested))
    assert (job["JobName"], job["JobId"], job["TimeLimit"]) == (nested["id"], nested["job_id"], "00:02:00")
    assert nested["job_id"] != run["job_id"] and "TresPerNode" not in job
    assert f"cpus=1 run={nested['id']} bind=none" in login.log(nested)
