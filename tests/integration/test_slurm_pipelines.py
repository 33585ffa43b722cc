"""Runs that wait for each other, and pipelines, under a real Slurm: from its login node and over SSH."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended, job_fields
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

SOON = {"AuthInfo": "cred_expire=5"}
UNTIL_TOLD = "echo begun; until [ -e go ]; do sleep 0.1; done; echo made > outputs/thing"


def tell(login: Login, run: Document) -> None:
    """Let the payload UNTIL_TOLD go on."""
    login.write(f"{run['run_dir']}/code/go", "")


def steps(login: Login, pipeline: Document) -> dict[str, Document]:
    """The runs of a pipeline's steps, as they were last seen, by the names of the steps."""
    ids = pipeline["submission"]["steps"]
    return {step["name"]: login.json("show", step["id"], "--no-refresh") for step in ids}


def test_the_example(login: Login) -> None:
    """Each step finds the files of those before it where they were written, and begins after them."""
    project = login.example("pipeline")
    options = ("-t", "virtual", "--set", f"environment.python.interpreter_path={SYSTEM_PYTHON}")
    made = login.json("submit", f"{project}/pipeline.yaml", *options, "--wait", timeout=180)
    assert how_it_ended(made) == ("Completed", "", None)
    runs = steps(login, made)
    assert [how_it_ended(run) for run in runs.values()] == [("Completed", "", 0)] * 3
    assert "mean square error" in login.log(runs["evaluate"])
    times = [(run["started"], run["ended"]) for run in runs.values()]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))
    jobs = [run["job_id"] for run in runs.values()]
    assert runs["train"]["submission"]["waits"] in ([f"afterok:{jobs[0]}"], [])
    assert {run["snapshot"]["id"] for run in runs.values()} == {made["snapshot"]["id"]}


def test_a_run_waits_for_a_requeued_one(login: Login) -> None:
    """Slurm is told by the job's id, and of a requeue it knows: the run waits for the attempt that ends."""
    login.cluster.reconfigure(SOON)
    first = login.submit({"command": UNTIL_TOLD})
    config = {"command": "cat $HPCRUN_INPUT_THING", "inputs": {"thing": f"{first['id']}/outputs/thing"}}
    second = login.submit(config)
    assert second["after"] == [{"run": first["id"], "when": "ok"}]
    login.until_state(second, "Queued", "Dependency")
    fields = job_fields(login.slurm("scontrol", "show", "job", second["job_id"]))
    assert fields["Dependency"] == f"afterok:{first['job_id']}(unfulfilled)"
    assert fields["KillOInInvalidDependent"] == "Yes"
    told = login.json("explain", second["id"])
    assert told["cause"] == "Waiting" and first["id"] in told["words"]
    assert first["id"] in login.hpcrun("show", second["id"]).stdout
    assert second["id"] in login.hpcrun("show", first["id"]).stdout

    login.until_logged(first, "begun")
    login.until_state(first, "Running")
    login.slurm("scontrol", "requeue", first["job_id"])
    login.cluster.wait_for(lambda: login.log(first).count("begun") == 2, 120, "the second attempt")
    assert login.show(second)["state"] == "Queued"
    tell(login, first)
    first, second = login.wait(first, second)
    assert [how_it_ended(run) for run in (first, second)] == [("Completed", "", 0)] * 2
    assert login.log(second) == "made\n"


def test_a_step_that_fails(login: Login) -> None:
    """What needs it ends without having begun, and says why; what is to run in any case does."""
    config = {
        "experiment": "fails",
        "compute_target": "virtual",
        "steps": {
            "first": {"command": "until [ -e go ]; do sleep 0.1; done; exit 3"},
            "second": {"command": "true", "needs": ["first"]},
            "third": {"command": "true", "needs": ["second"]},
            "cleans": {"command": "true", "needs": ["any:first"]},
            "mourns": {"command": "true", "needs": ["notok:first"]},
        },
    }
    file = login.write(f"{login.home}/project/pipeline.yaml", json.dumps(config))
    made = login.json("submit", file)
    login.until_state(steps(login, made)["third"], "Queued", "Dependency")
    tell(login, steps(login, made)["first"])
    (made,) = login.wait(made)
    assert (made["state"], made["reason"]) == ("Failed", "BadExit")
    assert "step first" in made["message"]
    runs = steps(login, made)
    assert {name: how_it_ended(run)[:2] for name, run in runs.items()} == {
        "first": ("Failed", "BadExit"),
        "second": ("Canceled", "Dependency"),
        "third": ("Canceled", "Dependency"),
        "cleans": ("Completed", ""),
        "mourns": ("Completed", ""),
    }
    told = login.json("explain", runs["second"]["id"])
    assert told["cause"] == "Dependency" and runs["first"]["id"] in told["words"]
    assert runs["second"]["started"] is None


def test_what_slurm_has_forgotten_is_decided_here(login: Login) -> None:
    """Slurm refuses a job that is to come after one that it no longer knows."""
    login.quickly_forgotten()
    good, bad = login.finish({"command": "true"}), login.finish({"command": "exit 3"})
    login.until_forgotten(good, bad)
    refused = login.cluster.run(
        "login",
        ["sbatch", f"--dependency=afterok:{good['job_id']}", "--wrap=true"],
        check=False,
    )
    assert "dependency problem" in refused.stderr, "or else there is nothing to decide"
    after = ["--after", good["id"], "--after", f"any:{bad['id']}", "--after", f"notok:{bad['id']}"]
    run = login.finish({"command": "true"}, *after)
    assert how_it_ended(run) == ("Completed", "", 0)
    assert run["submission"]["waits"] == []
    before = login.slurm("squeue", "--noheader")
    no = login.hpcrun("submit", "project/run.yaml", "-t", "virtual", "--after", bad["id"], check=False)
    assert no.returncode == 3 and f"wait for {bad['id']} to complete" in no.stderr
    assert login.slurm("squeue", "--noheader") == before
    assert len(login.json("ls", cwd=f"{login.home}/project")["runs"]) == 3


def test_canceled_as_one(login: Login) -> None:
    """No step is left, in the queue or in any state that is not an end."""
    config: Document = {
        "compute_target": "virtual",
        "steps": {
            "first": {"command": "echo begun; sleep 600"},
            "second": {"command": "true", "needs": ["first"]},
        },
    }
    made = login.json("submit", login.write(f"{login.home}/project/pipeline.yaml", json.dumps(config)))
    login.until_logged(steps(login, made)["first"], "begun")
    login.until_state(made, "Running")
    login.hpcrun("cancel", made["id"])
    (made,) = login.wait(made)
    assert (made["state"], made["reason"]) == ("Canceled", "Canceled")
    assert {how_it_ended(run)[:2] for run in steps(login, made).values()} == {("Canceled", "Canceled")}
    assert login.slurm("squeue", "--noheader") == ""


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_from_outside(laptop: Laptop) -> None:
    """Files stay where they are, on the cluster, and go from step to step there; all of it comes home."""
    config: dict[str, Any] = {
        "experiment": "exp",
        "source_directory": "src",
        "compute_target": "far",
        "steps": {
            "prepare": {"command": "echo made > outputs/thing"},
            "use": {
                "command": "cat $HPCRUN_INPUT_THING > outputs/copy",
                "inputs": {"thing": "steps.prepare/outputs/thing"},
            },
        },
    }
    (laptop.project / "pipeline.yaml").write_text(json.dumps(config))
    made = laptop.json("submit", "pipeline.yaml", "--wait")
    assert (made["state"], made["reason"]) == ("Completed", "")
    copied = laptop.project / ".hpcrun/runs" / made["submission"]["steps"][1]["id"] / "outputs/copy"
    assert copied.read_text() == "made\n"
