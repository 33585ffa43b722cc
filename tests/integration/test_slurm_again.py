"""A run once more, in what two runs differ, and children: on a real Slurm."""

from __future__ import annotations

import json
import sys

import pytest

from tests.integration.support import Login, how_it_ended, job_fields

pytestmark = pytest.mark.cluster

TRAIN = """\
import os, sys
print("first version", sys.argv[1:], os.environ["SLURM_JOB_PARTITION"])
"""

CONFIG = {
    "experiment": "again",
    "script": "train.py",
    "arguments": ["--rate", 0.1],
    "resources": {"time": "3m", "memory": "200M", "partition": "main"},
    "environment": {"python": {"interpreter_path": "/usr/bin/python3"}},
}


def test_a_run_once_more_and_in_what_they_differ(login: Login) -> None:
    """From the snapshot, though the source has changed; fresh; and with other resources elsewhere."""
    project = login.project({"train.py": TRAIN})
    first = login.finish(CONFIG, "--name", "one", project=project)
    assert how_it_ended(first) == ("Completed", "", 0)
    login.project({"train.py": TRAIN.replace("first", "second")})

    same = login.json("rerun", "one", "--wait", cwd=project)
    fresh = login.json("rerun", first["id"], "--fresh", "--wait", cwd=project)
    changes = ("-p", "short", "--time", "1m", "--mem", "250M", "--set", "arguments=[x]")
    other = login.json("rerun", "@again:1", *changes, "--wait", cwd=project)

    assert [login.log(run) for run in (first, same, fresh, other)] == [
        "first version ['--rate', '0.1'] main\n",
        "first version ['--rate', '0.1'] main\n",
        "second version ['--rate', '0.1'] main\n",
        "first version ['x'] short\n",
    ]
    assert same["snapshot"] == first["snapshot"] == other["snapshot"] != fresh["snapshot"]
    assert {run["properties"]["rerun_of"] for run in (same, fresh, other)} == {first["id"]}
    assert len({run["job_id"] for run in (first, same, fresh, other)}) == 4
    fields = job_fields(login.slurm("scontrol", "show", "job", other["job_id"]))
    assert (fields["Partition"], fields["TimeLimit"], fields["JobName"]) == ("short", "00:01:00", other["id"])

    name = {"key": "display_name", "old": "one", "new": None}
    found = login.json("diff", first["id"], same["id"], cwd=project)
    assert (found["configuration"], found["environment"], found["code"]) == ([name], [], "")
    found = login.json("diff", same["id"], fresh["id"], cwd=project)
    assert not found["same"] and found["configuration"] == []
    assert '-print("first version"' in found["code"] and '+print("second version"' in found["code"]
    found = login.json("diff", same["id"], other["id"], cwd=project)
    changed = {each["key"]: (each["old"], each["new"]) for each in found["configuration"]}
    assert changed["resources.partition"] == ("main", "short")
    assert changed["resources.memory"] == ("200M", "250M") and changed["arguments"] == (
        ["--rate", 0.1],
        ["x"],
    )
    assert login.json("ls", "--status", "completed", cwd=project)["runs"][0]["id"] == other["id"]
    assert login.json("show", "@again:completed", cwd=project)["id"] == other["id"]
    shown = login.hpcrun("show", "one", cwd=project).stdout
    assert "asked for   memory 200M, time 00:03:00, partition main" in shown
    assert "environment python.interpreter_path: /usr/bin/python3" in shown


def test_a_job_submits_a_child_on_another_node(login: Login) -> None:
    """From inside a Slurm job, whose own variables do not leak into the child's."""
    child = {
        "command": "echo I am $SLURM_JOB_ID; env | grep -c SLURM_ARRAY || true",
        "source_directory": "src",
    }
    project = login.project({"src/x.txt": "", "child.yaml": json.dumps(child)})
    text = (
        f"cd '{project}' && '{sys.executable}' -m hpcrun submit child.yaml -t virtual:short"
        ' --parent "$HPCRUN_RUN_ID" --name below'
    )
    config = {"experiment": "family", "command": text, "source_directory": "src"}
    parent = login.finish(config, "-t", "virtual", project=project)
    assert how_it_ended(parent) == ("Completed", "", 0), login.log(parent)

    below = login.json("wait", "below", cwd=project)["runs"][0]
    assert how_it_ended(below) == ("Completed", "", 0)
    assert (below["parent"], below["experiment"]) == (parent["id"], "family")
    assert login.log(below).splitlines()[0] == f"I am {below['job_id']}" != f"I am {parent['job_id']}"
    assert login.json("show", "@family:last", cwd=project)["children"] == [below["id"]]
    assert [run["id"] for run in login.json("ls", cwd=project)["runs"]] == [parent["id"]]
