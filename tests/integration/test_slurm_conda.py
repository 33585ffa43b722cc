"""Existing conda environments.

No real conda can be had here without a network. ``CONDA_SH`` is a stand-in that does what hpcrun relies on
and guards against, as the real one does it: ``conda`` is a shell function, ``activate`` reads variables that
may not be set (which kills a shell under ``set -u``), puts the prefix's ``bin`` in front of PATH, sets
CONDA_PREFIX, sources the scripts in ``etc/conda/activate.d``, and fails for an unknown name.
"""

from __future__ import annotations

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

ROOT = "/home/alice/conda"

CONDA_SH = f"""\
export CONDA_EXE={ROOT}/bin/conda CONDA_SHLVL=0
conda() {{
    local prompt="$PS1" prefix script
    [ "$1" = activate ] || return 1
    case $2 in
        /*) prefix=$2 ;;
        base) prefix={ROOT} ;;
        *) prefix={ROOT}/envs/$2 ;;
    esac
    if ! [ -d "$prefix/conda-meta" ]; then
        echo "EnvironmentNameNotFound: Could not find conda environment: $2" >&2
        return 1
    fi
    export CONDA_PREFIX=$prefix CONDA_DEFAULT_ENV=$2 CONDA_SHLVL=1 PATH="$prefix/bin:$PATH"
    export PS1="($2) $prompt"
    for script in "$prefix"/etc/conda/activate.d/*.sh; do . "$script"; done
}}
"""
LYING_CONDA_SH = "conda() { return 0; }\n"
ACTIVATE = 'export FROM_PACKAGE="$NEVER_SET:activated"\n'

SHOW = """\
import os, sys
print(sys.executable, os.environ["CONDA_PREFIX"], os.environ["FROM_PACKAGE"])
"""


@pytest.fixture
def conda(login: Login) -> Login:
    """Two environments: ``science`` under conda's own root, and a prefix elsewhere."""
    login.write(f"{ROOT}/etc/profile.d/conda.sh", CONDA_SH)
    for prefix in (f"{ROOT}/envs/science", "/home/alice/elsewhere/env"):
        login.write(f"{prefix}/conda-meta/history", "")
        login.write(f"{prefix}/etc/conda/activate.d/package.sh", ACTIVATE)
        login.cluster.run("login", ["mkdir", f"{prefix}/bin"])
        login.cluster.run("login", ["ln", "-s", SYSTEM_PYTHON, f"{prefix}/bin/python"])
    login.project({"show.py": SHOW})
    return login


def submit(login: Login, site: str, **section: str) -> Document:
    """Submit show.py in the conda environment that ``section`` names."""
    return login.submit({"script": "show.py", "environment": {"conda": section}}, "-t", site)


def test_an_environment_by_name_and_by_prefix(conda: Login) -> None:
    """Each with its own Python first, and what its packages' scripts add."""
    conda.add_site("with-conda", conda={"root": ROOT})
    conda.add_site("without", conda={"root": "/opt/no-conda"})
    by_name = submit(conda, "with-conda", name="science")
    by_prefix = submit(conda, "with-conda", prefix="/home/alice/elsewhere/env")
    # Without conda itself, a prefix can still be used: it is a folder with scripts of its own.
    alone = submit(conda, "without", prefix="/home/alice/elsewhere/env")

    science, elsewhere = f"{ROOT}/envs/science", "/home/alice/elsewhere/env"
    for run, prefix in zip(
        conda.wait(by_name, by_prefix, alone), (science, elsewhere, elsewhere), strict=True
    ):
        assert how_it_ended(run) == ("Completed", "", 0), conda.log(run)
        assert conda.log(run) == f"{prefix}/bin/python {prefix} :activated\n"


def test_an_environment_that_cannot_be_activated_says_why(conda: Login) -> None:
    """No such name; no conda and no prefix; an ``activate`` that says yes and changes nothing."""
    conda.write("/home/alice/lying/etc/profile.d/conda.sh", LYING_CONDA_SH)
    conda.write("/home/alice/lying/envs/science/conda-meta/history", "")
    conda.add_site("with-conda", conda={"root": ROOT})
    conda.add_site("without", conda={"root": "/opt/no-conda"})
    conda.add_site("lying", conda={"root": "/home/alice/lying"})
    runs = conda.wait(
        submit(conda, "with-conda", name="unheard-of"),
        submit(conda, "without", name="science"),
        submit(conda, "lying", name="science"),
    )
    expected = (
        "conda activate unheard-of failed on node",
        "no conda.sh under /opt/no-conda/etc/profile.d and no environment at /opt/no-conda/envs/science",
        "conda activate science left CONDA_PREFIX at '' on node",
    )
    for run, words in zip(runs, expected, strict=True):
        assert how_it_ended(run) == ("Failed", "Environment", 103), conda.log(run)
        assert words in run["message"]
        assert conda.log(run) == ""
    assert "EnvironmentNameNotFound" in conda.read(runs[0], "system_logs/job.txt")
