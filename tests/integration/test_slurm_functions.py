"""Python functions on a real cluster: from the login node and from outside, by name and as they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import EXAMPLES, SYSTEM_PYTHON, Login
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

MODULE = """\
import os, socket, sys

def triple(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return 3 * x

def who():
    return int(os.environ["RANK"]), socket.gethostname(), sys.executable

def where():
    return os.environ.get("APPTAINER_CONTAINER"), sys.executable, os.path.exists("/etc/debian_version")
"""

NEAR = """\
import json, sys
from hpcrun import Experiment, FunctionRunConfig, MpiConfiguration, Workspace
from hpcrun.errors import RunFailedError
import ours

image, system = sys.argv[1:]
environment = {"python": {"interpreter_path": system}}
experiment = Experiment(Workspace.from_config(), "fn")

def submit(function, *args, **more):
    return experiment.submit(FunctionRunConfig(function, args, compute_target="virtual", **more))

mpi = MpiConfiguration(process_count_per_node=2, node_count=2)
ranks = submit(ours.who, distributed_job_config=mpi, environment=environment)
inside = submit(ours.where, environment={"apptainer": {"image": image, "gpu": "none"}})
closure = submit(lambda x: [x, sys.argv], 1)
other = submit(lambda: 1, environment=environment)
failing = submit(ours.triple, -1, environment=environment)
told = {"ranks": ranks.results(), "inside": inside.result(), "closure": closure.result()[0]}
for name, run in (("other", other), ("failing", failing)):
    try:
        run.result()
    except Exception as error:
        told[name] = [type(error).__name__, str(error), str(error.__cause__)]
told["again"] = inside.rerun().result() == inside.result()
print(json.dumps(told))
"""

FAR = """\
import json, pathlib, sys
sys.path.insert(0, "src")
from hpcrun import Experiment, FunctionRunConfig, Workspace
import ours

experiment = Experiment(Workspace.from_config(), "fn")

def submit(function, *args, **more):
    return experiment.submit(FunctionRunConfig(function, args, None, "src", compute_target="far", **more))

big = submit(bytes, 3_000_000)
same = {"python": {"interpreter_path": sys.executable}}
closure = submit(lambda x: x + big_number, 1, environment=same) if (big_number := 41) else None
failing = submit(ours.triple, -1)
told = {"big": len(big.result()), "closure": closure.result()}
try:
    failing.result()
except ValueError as error:
    told["failing"] = str(error.__cause__)
mapped = experiment.map(ours.triple, [1, 2, 3], source_directory="src", compute_target="far")
told["mapped"] = [run.result() for run in mapped]
modes = [path.stat().st_mode & 0o777 for path in big.folder.glob("results/*")]
print(json.dumps({**told, "modes": modes, "run_dir": big.record.run_dir, "state": big.status}))
"""


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_functions_on_the_login_node(login: Login) -> None:
    """In four ranks on two nodes, in an image, of the program itself; what will not do says why."""
    project = login.project({"ours.py": MODULE, "program.py": NEAR})
    argv = [sys.executable, "program.py", login.cluster.sif, SYSTEM_PYTHON]
    told = json.loads(login.cluster.run("login", argv, cwd=project, timeout=180).stdout)

    assert [rank for rank, *_ in told["ranks"]] == [0, 1, 2, 3]
    assert len({host for _, host, _ in told["ranks"]}) == 2
    assert {python for *_, python in told["ranks"]} == {SYSTEM_PYTHON}
    assert told["inside"] == [login.cluster.sif, "/usr/bin/python3", False]
    assert told["closure"] == 1 and told["again"]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    kind, words, _ = told["other"]
    assert kind == "RunFailedError" and f"was pickled by Python {here}, and the environment has 3." in words
    kind, words, cause = told["failing"]
    assert (kind, words) == ("ValueError", "negative: -1")
    assert 'ours.py", line 5, in triple' in cause


def test_the_example(login: Login) -> None:
    """A map, by the system's Python: the function goes by its name, so that the versions may differ."""
    project = login.project(
        {p.name: p.read_text() for p in (EXAMPLES / "functions").glob("*.py")}, "functions"
    )
    argv = [sys.executable, "run.py", "virtual", SYSTEM_PYTHON]
    told = login.cluster.run("login", argv, cwd=project, timeout=180).stdout
    assert told.startswith("pi is about 3.14")
    runs = login.json("ls", cwd=project)["runs"]
    assert len(runs) == 8 and {run["state"] for run in runs} == {"Completed"}


def test_functions_from_outside(laptop: Laptop) -> None:
    """The call goes over with the run, the result comes home with it, and is unpickled here."""
    (laptop.source / "ours.py").write_text(MODULE)
    told = laptop.python(FAR)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert (found["big"], found["closure"], found["mapped"]) == (3_000_000, 42, [3, 6, 9])
    assert "ours.py" in found["failing"] and "negative: -1" in found["failing"]
    assert found["modes"] == [0o600] and found["state"] == "Completed"
    assert found["run_dir"].startswith("/home/alice/hpc/runs/")


KILLED = """\
import os, sys
sys.path.insert(0, "src")
import hpcrun.schedulers.slurmremote as slurm
from hpcrun import Experiment, Workspace
import ours

old = slurm.RemoteSlurmScheduler.submit
if sys.argv[1] == "before":
    slurm.RemoteSlurmScheduler.submit = lambda *more: os.kill(os.getpid(), 9)
else:
    slurm.RemoteSlurmScheduler.submit = lambda *more: os.kill(os.getpid(), old(*more) and 9)
Experiment(Workspace.from_config(), "fn").map(
    ours.started, [1, 2, 3], source_directory="src", compute_target="far", max_concurrent=2
)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_whoever_submits_an_array_from_outside_is_killed(laptop: Laptop, moment: str) -> None:
    """The next who looks finds sbatch's answer there, or that there is none and never will be."""
    started = "\n\ndef started(x):\n    print('x is', x)\n    return x\n"
    (laptop.source / "ours.py").write_text(MODULE + started)
    assert laptop.python(KILLED, moment).returncode == -9

    def runs() -> list[dict[str, str]]:
        found: list[dict[str, str]] = laptop.json("ls")["runs"]
        return found

    laptop.cluster.wait_for(lambda: all(run["job_id"] for run in runs()), 60, "all of them to be sent")
    ended = [laptop.json("wait", run["id"])["runs"][0] for run in runs()]
    assert [run["state"] for run in ended] == ["Completed"] * 3
    assert len({run["job_id"].partition("_")[0] for run in ended}) == 1
    said = sorted(laptop.hpcrun("logs", run["id"]).stdout for run in ended)
    assert said == ["x is 1\n", "x is 2\n", "x is 3\n"]
    jobs = laptop.slurm("sacct", "-X", "-n", "-P", "--format=JobID", f"--name={_leader(ended)}").split()
    assert len(jobs) == 3, "each of them once"


def _leader(runs: list[dict[str, str]]) -> str:
    return next(run["id"] for run in runs if run["job_id"].endswith("_0"))
