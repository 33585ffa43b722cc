"""Images that hpcrun pulls and builds, with a real Apptainer: once, and then run on two nodes.

The registry is a fake of this project's own (tests/registry.py); what is pulled from it is pulled for real.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests import registry
from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

# mpi4py and the Open MPI of the hosts, with all libraries that they need; pip, for virtual environments.
PACK = r"""
files=$(dpkg -L python3-mpi4py libopenmpi40 openmpi-common libpmix2t64)
files=$(printf '%s\n' $files | grep -E '\.so|\.py$|/share/(openmpi|pmix)/')
libraries=$(printf '%s\n' $files | grep '\.so' | xargs ldd 2>/dev/null)
needed=$(printf '%s\n' "$libraries" | grep -o '=> /[^ ]*' | cut -c 4- | sort -u)
mpi=$(for file in $files $needed; do [ ! -f "$file" ] || echo "$file"; done)
pip="$(echo /usr/lib/python3.*[0-9]/ensurepip) /usr/share/python-wheels /etc/ssl/certs/ca-certificates.crt"
[ "$1" = pip ] && mpi= || pip=
tar --hard-dereference -czhf "$2" $mpi $pip 2>/dev/null
"""

DEFINITION = """\
Bootstrap: localimage
From: {}

%files
    {} /packed.tar.gz

%post
    cd / && tar -xzf packed.tar.gz && rm packed.tar.gz
    mkdir -p /opt && echo "of the image" >/opt/made.txt
"""

# Each rank says what it sees: the others, where PMIx keeps what it shares, the job's own TMPDIR.
RANKS = """\
import os, sys, tempfile
sys.path.append("/usr/lib/python3/dist-packages")
from mpi4py import MPI
world = MPI.COMM_WORLD
print(world.rank, "of", world.size, "sum", world.allreduce(world.rank), "on", os.uname().nodename)
print(os.path.isdir(os.environ["PMIX_SERVER_TMPDIR"]), tempfile.gettempdir(), open("/opt/made.txt").read())
"""


def pack(login: Login, what: str, path: str) -> None:
    login.cluster.run("login", ["bash", "-c", PACK, "pack", what, path], timeout=120)


def ended_well(login: Login, run: Document) -> None:
    assert "state" in run, run
    assert how_it_ended(run) == ("Completed", "", 0), [environment_log(login, run), login.log(run, 0)]


def environment_log(login: Login, run: Document) -> str:
    name = "system_logs/environment.txt"
    return login.read(run, name) if login.exists(f"{run['folder']}/{name}") else ""


def packages(login: Login, run: Document) -> list[str]:
    return login.read(run, "system_logs/packages.txt").splitlines()


def test_an_image_built_from_a_definition_runs_mpi_over_two_nodes(login: Login) -> None:
    """One container a rank, which find each other by the host's PMIx; the image is built before the run."""
    image = DEFINITION.format(login.cluster.sif, "mpi.tar.gz")
    project = login.project({"image.def": image, "ranks.py": RANKS})
    pack(login, "mpi", f"{project}/mpi.tar.gz")
    setup = "export TMPDIR=/scratch/tmp; mkdir -p $TMPDIR"
    login.add_site("other", setup=setup, apptainer={"cache": "/scratch/c"})
    config = {
        "script": "ranks.py",
        "environment": {"apptainer": {"definition": "image.def", "clean_environment": True}},
        "distributed_job_config": {"type": "mpi", "node_count": 2, "process_count_per_node": 2},
    }
    run = login.finish(config, "-t", "other", timeout=300)

    ended_well(login, run)
    nodes = set()
    for rank in range(4):
        first, second = login.log(run, rank).splitlines()[:2]
        told = re.fullmatch(rf"{rank} of 4 sum 6 on (node\d)", first)
        assert told is not None, first
        nodes.add(told[1])
        assert second == "True /scratch/tmp of the image"
    assert len(nodes) == 2
    assert "Build complete" in environment_log(login, run)
    found = packages(login, run)
    base = login.cluster.run("login", ["sha256sum", login.cluster.sif]).stdout.split()[0]
    assert found[0] == f"{login.cluster.sif} sha256:{base}"
    assert re.fullmatch(r"sif sha256:[0-9a-f]{64}", found[1])
    assert login.exists("/scratch/c/cache") and not login.exists("/home/alice/.apptainer/cache")


@pytest.mark.parametrize("file", ["run.yaml", "apptainer.yaml"])
def test_the_example_of_a_shared_out_domain(login: Login, file: str) -> None:
    """As it is, and in containers, whose image is built here from what is at hand, without a network."""
    example = login.example("heat")
    image = DEFINITION.format(login.cluster.sif, "mpi.tar.gz")
    if file == "apptainer.yaml":
        login.write(f"{example}/heat.def", image)
        pack(login, "mpi", f"{example}/mpi.tar.gz")
    idle = "environment_variables.OMPI_MCA_mpi_yield_when_idle=1"  # there are fewer cores than processes
    login.hpcrun(
        *("submit", file, "-t", "virtual", "--set", idle, "--wait"), cwd=example, timeout=300, check=False
    )
    run = login.json("show", "@-1", cwd=example)
    ended_well(login, run)
    told = login.read(run, "outputs/heat.txt")
    assert re.fullmatch(r"24 x 24 cells, 4 processes, \d+ steps, off by 0\.000\d+ at most\n", told), told
    assert [login.log(run, rank) for rank in range(4)] == [
        f"process {rank} of 4 had rows {6 * rank + 1} to {6 * rank + 6}\n" for rank in range(4)
    ]


def start_registry(login: Login) -> str:
    """The registry on the login node; its log."""
    cluster = login.cluster
    cluster.write("/home/alice/layer/etc/where.txt", "from a registry\n")
    for name in ("passwd", "group"):
        cluster.write(f"/home/alice/layer/etc/{name}", "")
    script = "mkdir -p layer/bin layer/usr/bin && cp /usr/bin/busybox layer/bin/sh && ln -s sh layer/bin/cat"
    cluster.run("login", ["sh", "-c", script], cwd="/home/alice")
    log = "/home/alice/registry.log"
    words = ["5000", log, "docker=/home/alice/layer", f"oras={cluster.sif}"]
    cluster.popen("login", [SYSTEM_PYTHON, registry.__file__, *words], stdout=None, stderr=None)
    cluster.wait_for(lambda: login.exists(log), 60, "the registry")
    return log


def test_eight_runs_pull_an_image_once(login: Login) -> None:
    """What was pulled is known by its digest; one that is not there is named in Apptainer's words."""
    log = start_registry(login)
    variables = {"APPTAINER_NO_HTTPS": "true"}  # the registry's, not hpcrun's
    login.add_site("other", environment_variables=variables)
    config = {
        "command": ["cat", "/etc/where.txt"],
        "environment": {"apptainer": {"image": "docker://login:5000/lab/docker:1"}},
    }
    file = login.write("/home/alice/project/run.yaml", json.dumps(config))
    submit = " ".join(login.argv("submit", file, "-t", "other", "--json", ">/dev/null", "&"))
    login.cluster.run(
        "login", ["bash", "-c", f"for i in 1 2 3 4 5 6 7 8; do {submit} done; wait"], timeout=300
    )
    runs = login.wait(*login.json("ls", cwd="/home/alice/project")["runs"], timeout=180)

    assert [how_it_ended(run) for run in runs] == [("Completed", "", 0)] * 8
    assert [login.log(run) for run in runs] == ["from a registry\n"] * 8
    asked = login.cat(log).splitlines()
    assert len([line for line in asked if '"GET' in line and "/blobs/" in line]) == 2, asked
    digest = packages(login, runs[0])[0]
    assert re.fullmatch(r"docker://login:5000/lab/docker@sha256:[0-9a-f]{64}", digest)
    lock = login.hpcrun("env", "lock", runs[0]["id"], cwd="/home/alice/project").stdout
    assert lock == f"apptainer:\n  image: {digest}\n"
    assert "Converting OCI blobs" in environment_log(login, runs[0])
    assert "DEBUG" not in environment_log(login, runs[0])

    again = {**config, "environment": {"apptainer": {"image": digest}}}
    oras = {"apptainer": {"image": "oras://login:5000/lab/oras:1"}}
    none = {"apptainer": {"image": "docker://login:5000/lab/none:1"}}
    by_digest = login.submit(again, "-t", "other")
    by_oras = login.submit({"command": ["python3", "-V"], "environment": oras}, "-t", "other")
    refused = login.submit({**config, "environment": none}, "-t", "other", check=False)
    missing = login.json("show", "@-1", cwd="/home/alice/project")
    by_digest, by_oras = login.wait(by_digest, by_oras)
    assert login.log(by_digest) == "from a registry\n"
    assert packages(login, by_digest)[0] == digest
    assert login.log(by_oras).startswith("Python 3")
    assert packages(login, by_oras)[0] == oras["apptainer"]["image"]
    assert how_it_ended(missing)[:2] == ("Failed", "Environment")
    assert "manifest unknown" in missing["message"] and "manifest unknown" in refused["error"]["message"]


def wheel(folder: Path, name: str, version: str) -> None:
    """A package of one module, which says its version."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_a_virtual_environment_inside_an_image(login: Login) -> None:
    """Made by the image's Python, inside; with a module in front. What is in the user's home is not seen."""
    cluster = login.cluster
    project = login.project({"image.def": DEFINITION.format(cluster.sif, "pip.tar.gz")})
    pack(login, "pip", f"{project}/pip.tar.gz")
    wheel(cluster.home() / "wheels", "greeting", "1.5")
    cluster.chown(cluster.home() / "wheels")
    login.write("/home/alice/requirements/all.txt", "greeting==1.5\n")
    login.write("/home/alice/modules/tools/1", "#%Module\nsetenv BROUGHT by-a-module\n")
    version = cluster.run("login", [SYSTEM_PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    user_site = f"/home/alice/.local/lib/python{version.stdout.strip()}/site-packages"
    login.write(f"{user_site}/stray.py", "")
    login.write(
        f"{project}/look.py",
        "import greeting, importlib.util, os, sys\n"
        "print(greeting.version, os.path.exists('/opt/made.txt'), os.environ['BROUGHT'])\n"
        "print(sys.prefix == os.environ['VIRTUAL_ENV'], importlib.util.find_spec('stray'))\n",
    )
    environment: dict[str, Any] = {
        "apptainer": {"definition": "image.def"},
        "venv": {
            "requirements": "/home/alice/requirements/all.txt",
            "pip_options": ["--no-index", "--find-links=/home/alice/wheels"],
        },
        "modules": ["tools/1"],
    }
    login.add_site("other", environment_variables={"MODULEPATH": "/home/alice/modules"})
    run = login.finish({"script": "look.py", "environment": environment}, "-t", "other", timeout=300)

    ended_well(login, run)
    assert login.log(run) == "1.5 True by-a-module\nTrue None\n"
    found = packages(login, run)
    assert found[0].startswith(f"# {cluster.sif} sha256:") and found[1].startswith("# sif sha256:")
    assert "greeting==1.5" in found
    assert sys.executable not in environment_log(login, run)
