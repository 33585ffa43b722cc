"""The Python API, in a program that a researcher runs on the login node."""

from __future__ import annotations

import json
import sys

import pytest

from tests.integration.support import Document, Login

pytestmark = pytest.mark.cluster

TRAIN = """\
import pathlib, sys
print("trained with", *sys.argv[1:])
pathlib.Path("outputs/model.txt").write_text("a model")
pathlib.Path("outputs/deep/er").mkdir(parents=True)
pathlib.Path("outputs/deep/er/more.txt").write_text("more")
"""

PROGRAM = """\
import io, json
from hpcrun import Environment, Experiment, MpiConfiguration, Resources, Run, ScriptRunConfig, Workspace

ws = Workspace.from_config()
environment = Environment("user-managed-env")
environment.python.user_managed_dependencies = True
environment.python.interpreter_path = "/usr/bin/python3"
config = ScriptRunConfig(
    source_directory="src",
    script="train.py",
    arguments=["--rate", 0.1, "--name", "a  b"],
    compute_target="virtual",
    environment=environment,
    distributed_job_config=MpiConfiguration(process_count_per_node=1, node_count=1),
)
config.run_config.target = "virtual:short"
config.resources = Resources(time="3m", cpus_per_task=1)
experiment = Experiment(ws, "from-python")
run = experiment.submit(config, tags={"kind": "test"}, display_name="the first", key="once")
same = experiment.submit(config, key="once")
stream = io.StringIO()
details = run.wait_for_completion(show_output=True, stream=stream)
again = Run.get(ws, run.id)
print(json.dumps({
    "id": run.id,
    "same": same.id,
    "shown": stream.getvalue(),
    "details": details,
    "status": again.get_status(),
    "names": again.get_file_names(),
    "downloaded": again.download_file("outputs/deep/er/more.txt", "here/").read_text(),
    "as": str(again.download_file("outputs/model.txt", "other.name")),
    "tags": again.get_tags(),
    "display_name": again.display_name,
    "number": again.number,
    "runs": [each.id for each in experiment.get_runs()],
    "experiments": [each.name for each in Experiment.list(ws)],
}))
"""

FAILING = """\
import json
from hpcrun import Experiment, ScriptRunConfig, Workspace
from hpcrun.errors import RunFailedError

ws = Workspace.from_config()
experiment = Experiment(ws, "ends")
failing = experiment.submit(ScriptRunConfig("src", command="exit 9", compute_target="virtual"))
endless = experiment.submit(ScriptRunConfig("src", command=["sleep", "600"], compute_target="virtual"))
try:
    failing.wait_for_completion()
    said = ""
except RunFailedError as error:
    said = str(error)
endless.cancel()
canceled = endless.wait_for_completion()
print(json.dumps({
    "said": said,
    "failed": failing.wait_for_completion(raise_on_error=False),
    "canceled": canceled,
    "status": [failing.status, endless.status],
}))
"""


def run_program(login: Login, text: str) -> Document:
    """Run a Python program of alice's in a folder with the source; what it printed."""
    login.project({"src/train.py": TRAIN, "program.py": text})
    argv = [sys.executable, "program.py"]
    told = login.cluster.run("login", argv, cwd=f"{login.home}/project", timeout=120)
    found: Document = json.loads(told.stdout)
    return found


def test_submit_wait_look_and_download(login: Login) -> None:
    """The flow of Azure ML's tutorials, on a real Slurm."""
    told = run_program(login, PROGRAM)

    assert told["same"] == told["id"] and told["runs"] == [told["id"]]
    assert told["shown"].startswith(f"RunId: {told['id']}\n")
    assert "[rank 0] trained with --rate 0.1 --name a  b\n" in told["shown"]
    assert told["shown"].endswith("[Completed]\n")
    details = told["details"]
    assert (details["runId"], details["target"]) == (told["id"], "virtual:short")
    assert (details["status"], told["status"], details["exitCode"]) == ("Completed", "Completed", 0)
    assert details["error"] is None and details["startTimeUtc"] <= details["endTimeUtc"]
    assert "trained with" in login.cat(details["logFiles"]["user_logs/std_log_process_000.txt"])
    assert [name for name in told["names"] if name.startswith("outputs/")] == [
        "outputs/deep/er/more.txt",
        "outputs/model.txt",
    ]
    assert (told["downloaded"], told["as"]) == ("more", "other.name")
    assert login.cat(f"{login.home}/project/here/more.txt") == "more"
    assert login.cat(f"{login.home}/project/other.name") == "a model"
    assert (told["tags"], told["display_name"], told["number"]) == ({"kind": "test"}, "the first", 1)
    assert told["experiments"] == ["from-python"]


def test_a_failure_is_raised_and_a_cancel_is_not(login: Login) -> None:
    """With the reason, and what to look at next."""
    told = run_program(login, FAILING)

    assert "failed (BadExit)" in told["said"] and "hpcrun logs" in told["said"]
    error = told["failed"]["error"]
    assert (error["code"], error["message"]) == ("BadExit", "the payload ended with exit code 9")
    assert error["explanation"]["cause"] == "BadExit"
    assert (told["failed"]["exitCode"], told["canceled"]["status"]) == (9, "Canceled")
    assert told["status"] == ["Failed", "Canceled"]
