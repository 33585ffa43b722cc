"""Interpreters, modules and variables: what a run's processes find, and what is said when it is not there."""

from __future__ import annotations

import json

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

SHOW = """\
import json, os, sys
print(json.dumps({"python": sys.executable, "environment": dict(os.environ)}))
"""

HOSTILE = {
    "SPACES": "  two  words ",
    "QUOTES": 'it\'s "quoted" `touch /home/alice/canary` $(touch /home/alice/canary)',
    "DOLLAR": "$HOME ${PATH} \\$x \\",
    "LINES": "one\ntwo\n\n",
    "LETTERS": "ünï — 雪 !history *",
    "EMPTY": "",
    "DASH": "-n",
}

MODULEFILE = """\
#%Module1.0
setenv GREETING "hello from a module"
prepend-path PATH /home/alice/tools/bin
"""


def python(path: str) -> Document:
    """The section of a run.yaml that names an interpreter."""
    return {"python": {"interpreter_path": path}}


def seen(login: Login, run: Document) -> Document:
    """What the script SHOW printed."""
    assert how_it_ended(run) == ("Completed", "", 0), login.log(run)
    found: Document = json.loads(login.log(run))
    return found


def test_an_interpreter_that_is_there_and_one_that_is_not(login: Login) -> None:
    """By path and by name; a missing one fails the run with its path, before the payload."""
    login.project({"show.py": SHOW})
    by_path = login.submit({"script": "show.py", "environment": python(SYSTEM_PYTHON)})
    by_name = login.submit({"script": "show.py", "environment": python("python3")})
    missing = login.submit({"script": "show.py", "environment": python("/opt/no/python")})
    by_path, by_name, missing = login.wait(by_path, by_name, missing)

    assert seen(login, by_path)["python"] == SYSTEM_PYTHON
    assert seen(login, by_name)["python"] == SYSTEM_PYTHON
    assert how_it_ended(missing) == ("Failed", "Environment", 103)
    assert "there is no interpreter /opt/no/python on node" in missing["message"]
    assert login.log(missing) == ""


def test_variables_of_site_environment_and_run(login: Login) -> None:
    """Any value arrives as it was written; what is nearer to the user wins; setup may add its own."""
    login.project({"show.py": SHOW})
    login.add_site(
        "other",
        nccl={"NCCL_SOCKET_IFNAME": "=eth0", "NCCL_DEBUG": "WARN"},
        environment_variables={"NCCL_DEBUG": "INFO", "WHERE": "site", "WHO": "site"},
        setup='export FROM_SETUP="$WHO and $UNSET"\n',
    )
    environment = {
        **python(SYSTEM_PYTHON),
        "environment_variables": {"WHERE": "environment", "WHO": "environment"},
        "setup": "export BOTH=\"$FROM_SETUP, then 'quoted'\"\n",
    }
    config = {
        "script": "show.py",
        "environment": environment,
        "environment_variables": {**HOSTILE, "WHERE": "run"},
        "resources": {"gpus_per_node": 1},
    }
    found = seen(login, login.finish(config, "-t", "other"))["environment"]

    assert {name: found[name] for name in HOSTILE} == HOSTILE
    assert not login.exists("/home/alice/canary")
    assert (found["WHERE"], found["WHO"]) == ("run", "environment")
    assert (found["NCCL_SOCKET_IFNAME"], found["NCCL_DEBUG"]) == ("=eth0", "INFO")
    assert found["BOTH"] == "environment and , then 'quoted'"
    assert (found["CUDA_VISIBLE_DEVICES"], found["PYTHONUNBUFFERED"]) == ("0", "1")


def test_modules_are_loaded_and_a_missing_one_is_named(login: Login) -> None:
    """By the module command of environment-modules, which no batch shell has of itself."""
    login.write("/home/alice/modulefiles/greeting/1.0", MODULEFILE)
    login.write("/home/alice/tools/bin/greet", '#!/bin/sh\necho "$GREETING"\n', mode=0o755)
    login.add_site("other", environment_variables={"MODULEPATH": "/home/alice/modulefiles"})
    there = login.submit({"command": ["greet"], "environment": {"modules": ["greeting/1.0"]}}, "-t", "other")
    missing = login.submit({"command": ["true"], "environment": {"modules": ["no/such"]}}, "-t", "other")
    login.add_site(
        "loading", modules=["greeting"], environment_variables={"MODULEPATH": "/home/alice/modulefiles"}
    )
    by_site = login.submit({"command": ["greet"]}, "-t", "loading")
    there, missing, by_site = login.wait(there, missing, by_site)

    assert how_it_ended(there) == ("Completed", "", 0)
    assert login.log(there) == login.log(by_site) == "hello from a module\n"
    assert how_it_ended(missing) == ("Failed", "Environment", 103)
    assert "module load no/such failed on node" in missing["message"]
    assert "no/such" in login.read(missing, "system_logs/job.txt")


def test_a_virtual_environment_that_is_active_is_the_runs_too(login: Login) -> None:
    """Where nothing names a Python, it is the one of the environment that the user submits from."""
    login.project({"show.py": SHOW})
    login.cluster.run("login", [SYSTEM_PYTHON, "-m", "venv", "--without-pip", "/home/alice/venv"])
    active = {"VIRTUAL_ENV": "/home/alice/venv", "PATH": "/home/alice/venv/bin:/usr/bin:/bin"}
    run = login.finish({"script": "show.py"}, env=active)
    assert seen(login, run)["python"] == "/home/alice/venv/bin/python"
