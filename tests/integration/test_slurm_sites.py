"""Sites that differ: without accounting, with run folders of their own place, described in the workspace."""

from __future__ import annotations

import pytest

from tests.cluster.fixtures import BootCluster
from tests.integration.support import SYSTEM_PYTHON, Login, how_it_ended, states

pytestmark = pytest.mark.cluster


def test_a_cluster_without_accounting(boot_cluster: BootCluster) -> None:
    """squeue and the job's own word are enough; the latter alone, once the controller has lost its memory."""
    login = Login(boot_cluster(accounting=False, nodes=1))
    login.add_site("bare", scheduler={"accounting": False})
    good = login.submit({"command": "echo fine"}, "-t", "bare")
    bad = login.submit({"command": "exit 4"}, "-t", "bare")
    canceled = login.submit({"command": "echo begun; sleep 600"}, "-t", "bare")
    login.until_logged(canceled, "begun")
    login.hpcrun("cancel", canceled["id"])
    good, bad, canceled = login.wait(good, bad, canceled)

    assert how_it_ended(good) == ("Completed", "", 0)
    assert how_it_ended(bad) == ("Failed", "BadExit", 4)
    assert (canceled["state"], canceled["reason"]) == ("Canceled", "Canceled")

    forgotten = login.submit({"command": "echo fine"}, "-t", "bare")
    login.until_said(forgotten, "exit code 0")
    login.cluster.restart_controller(clear_state=True)
    assert login.slurm("squeue", "--noheader", "--states=all") == ""
    (forgotten,) = login.wait(forgotten)
    assert how_it_ended(forgotten) == ("Completed", "", 0)


def test_run_folders_below_the_root_of_the_site(login: Login) -> None:
    """The run lives there; the history in the workspace shows it by links, and nothing else differs."""
    login.add_site("rooted", root="/scratch/$USER/hpcrun")
    login.project({"work.py": "print(open(__file__).name)\nopen('outputs/o.txt', 'w').write('made')\n"})
    environment = {"python": {"interpreter_path": SYSTEM_PYTHON}}
    run = login.finish({"script": "work.py", "environment": environment}, "-t", "rooted")

    assert how_it_ended(run) == ("Completed", "", 0)
    there = f"/scratch/alice/hpcrun/runs/{run['id']}"
    assert run["run_dir"] == there
    assert run["folder"] == f"{login.home}/.hpcrun/runs/{run['id']}"
    assert login.log(run) == f"{there}/code/./work.py\n"
    assert login.read(run, "outputs/o.txt") == login.cat(f"{there}/code/outputs/o.txt") == "made"
    for name in ("outputs", "logs", "user_logs", "system_logs", "job.sh"):
        link = login.cluster.run("login", ["realpath", f"{run['folder']}/{name}"]).stdout.strip()
        assert link.startswith(f"{there}/")
    assert [output["name"] for output in run["outputs"]] == ["outputs/o.txt"]
    assert states(run)[-1] == "Completed" and login.exists(f"{run['folder']}/run.json")
    modes = login.cluster.run("login", ["stat", "--format=%a %F", there, f"{there}/status.json"]).stdout
    assert modes == "700 directory\n600 regular file\n"


def test_a_site_and_a_template_of_the_workspace(login: Login) -> None:
    """A site file beside the workspace is over the user's own; a template extends the shipped one."""
    project = f"{login.home}/project"
    login.hpcrun("init", project)
    text = login.cat(f"{login.home}/.config/hpcrun/site_configs/virtual.yaml")
    login.write(f"{project}/site_configs/virtual.yaml", text.replace("time: 5m", "time: 6m"))
    login.write(
        f"{project}/.hpcrun/templates/slurm.sh.j2",
        '{% extends "hpcrun/slurm.sh.j2" %}\n'
        "{% block environment %}\n{{ super() }}\nexport FROM_TEMPLATE=1\n{% endblock %}\n",
    )
    command = 'echo "$FROM_TEMPLATE $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%l)"'
    run = login.finish({"command": command}, cwd=project)
    assert (how_it_ended(run), login.log(run)) == (("Completed", "", 0), "1 6:00\n")
