"""Conda environments that hpcrun makes, on a real cluster: of real packages, from a channel in a folder.

py-rattler makes them where hpcrun runs on the cluster; where it does not, micromamba is played (see
tests/conda_help.py), since none can be had.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import conda_help as conda
from tests.cluster.cluster import Cluster
from tests.integration.support import Document, Login, example_config, how_it_ended
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(conda.why_not()), reason=str(conda.why_not())),
]

CHANNEL = "file:///home/alice/channel"
SHOW = """\
import json, os, sys
import greeting
print(json.dumps([sys.prefix, os.environ["CONDA_PREFIX"], greeting.VERSION, os.environ["GREETING"]]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conda")
    conda.channel(folder)
    return folder / "channel"


def give(cluster: Cluster, built: Path) -> None:
    """The channel, in alice's home."""
    target = cluster.home() / "channel"
    shutil.copytree(built, target)
    cluster.run("login", ["chown", "-R", "alice:", "/home/alice/channel"], user="root")


@pytest.fixture
def alice(login: Login, built: Path) -> Login:
    give(login.cluster, built)
    return login


def environment(*packages: str) -> Document:
    return {"conda": {"channels": [CHANNEL], "python_version": conda.SHORT, "conda_packages": list(packages)}}


def test_one_mpi_and_pytorch_over_two_nodes(alice: Login) -> None:
    """One environment for a single process, for MPI and for PyTorch, each as its example is."""
    alice.project({"show.py": SHOW})
    made = environment("greeting=1.0", "mpi4py", "pytorch")
    single = alice.submit({"script": "show.py", "environment": made})
    mpi = alice.submit({**example_config("mpi4py"), "environment": made}, project=alice.example("mpi4py"))
    torch = alice.submit({**example_config("pytorch"), "environment": made}, project=alice.example("pytorch"))
    runs = single, mpi, torch = alice.wait(single, mpi, torch, timeout=240)
    for run in runs:
        assert how_it_ended(run) == ("Completed", "", 0), alice.read(run, "system_logs/job.txt")

    prefix, activated, version, greeting = json.loads(alice.log(single))
    folder = single["config"]["environment"]
    assert prefix == activated
    assert prefix.startswith(f"{folder['root']}/{folder['name']}-x86_64.")
    assert (version, greeting) == ("1.0", ":hello to the world")
    packages = alice.read(mpi, "system_logs/packages.txt")
    assert f"{CHANNEL}/{conda.PLATFORM}/mpi4py-" in packages
    assert "from 4 processes on ['node" in alice.read(mpi, "outputs/pi.txt")
    assert alice.read(torch, "outputs/summary.txt").startswith("world size 4, loss 0.0")
    links = [path for path in (alice.cluster.home() / ".hpcrun/environments").iterdir() if path.is_symlink()]
    assert len(links) == 1


def test_a_job_makes_it_by_what_the_caller_has(alice: Login) -> None:
    """On a node that sees the caller's py-rattler."""
    alice.add_site("byjob", environments={"build": "job", "partition": "short"})
    run = alice.finish({"command": "greet", "environment": environment("greeting=1.0")}, "-t", "byjob")
    assert how_it_ended(run) == ("Completed", "", 0), run
    assert alice.log(run) == "1.0\n"
    said = alice.read(run, "system_logs/environment.txt")
    assert " on node" in said.splitlines()[0] and "py-rattler: solving" in said


def test_what_cannot_be_made_is_explained(alice: Login) -> None:
    """By the solver's own words, and pip's; a tool that the site names and does not have."""
    alice.project({"show.py": SHOW})
    alice.add_site("named", conda={"executable": "/opt/no/mamba"})
    hard = {"script": "show.py", "environment": environment("greeting=2.0", "old-friend")}
    assert alice.hpcrun("submit", write(alice, hard), "-t", "virtual", check=False).returncode != 0
    explained = alice.hpcrun("explain", "@-1", check=False).stdout
    assert "old-friend * cannot be installed because there are no viable options" in " ".join(
        explained.split()
    )
    pip = environment("greeting=2.0")
    pip["conda"] |= {"pip_packages": ["nowhere"], "pip_options": ["--no-index"]}
    alice.hpcrun(
        "submit", write(alice, {"script": "show.py", "environment": pip}), "-t", "virtual", check=False
    )
    shown = alice.json("show", "@-1")
    assert (shown["state"], shown["reason"]) == ("Failed", "Environment")
    assert "No matching distribution found for nowhere" in shown["message"]
    gone = alice.hpcrun("submit", write(alice, hard), "-t", "named", check=False).stderr
    assert "there is no program /opt/no/mamba on login" in gone
    assert "conda.executable of site_configs/named.yaml" in gone
    assert [run["job_id"] for run in alice.json("ls")["runs"]] == [None, None, None]


def write(alice: Login, config: Document) -> str:
    return alice.write("/home/alice/project/run.yaml", json.dumps(config))


@pytest.fixture
def laptop(
    cluster: Cluster, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Laptop]:
    give(cluster, built)
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_over_ssh_by_what_is_there(laptop: Laptop) -> None:
    """Nothing is, here neither, and it is said what is missing; then micromamba is, in a place that no PATH
    names."""
    (laptop.folder / "hidden").mkdir()
    (laptop.folder / "hidden/sitecustomize.py").write_text("import sys\nsys.modules['rattler'] = None\n")
    laptop.env["PYTHONPATH"] = str(laptop.folder / "hidden")
    (laptop.source / "environment.yml").write_text(
        f"channels: [{CHANNEL}]\ndependencies: [old-friend]\nvariables: {{FROM_FILE: there}}\n"
    )
    show = 'echo "$FROM_FILE $(greet)"'
    laptop.config(command=show, environment={"conda": {"file": "environment.yml"}})
    told = laptop.refused()
    assert "there is no micromamba, mamba or conda on login, and no Python with py-rattler" in told.stderr
    assert "conda.executable of site_configs/far.yaml" in told.stderr
    program = conda.stand_in(laptop.cluster.home() / ".local/bin", "micromamba")
    laptop.cluster.run("login", ["chown", "-R", "alice:", "/home/alice/.local"], user="root")
    assert program.exists()
    run = laptop.submit("--wait")
    assert how_it_ended(run) == ("Completed", "", 0)
    home = laptop.project / ".hpcrun/runs" / run["id"]
    assert (home / "user_logs/std_log.txt").read_text() == "there 1.1\n"
    assert f"{CHANNEL}/noarch/old-friend-1.0-" in (home / "system_logs/packages.txt").read_text()


def by_the_caller(laptop: Laptop, built: Path, *packages: str) -> None:
    """run.yaml with an environment of these packages, from a channel that only the laptop has."""
    conda_section = environment(*packages)["conda"] | {"channels": [built.as_uri()]}
    laptop.config(
        command="greet && which greet && cat bin 2>/dev/null; true", environment={"conda": conda_section}
    )


def prefixes(laptop: Laptop) -> list[Path]:
    """The environments there that have a name."""
    found = [path for path in laptop.root("environments").iterdir() if path.is_symlink()]
    return [path for path in found if path.suffix != ".lock"]


def test_by_the_caller_where_the_site_has_nothing(laptop: Laptop, built: Path) -> None:
    """Solved and linked on the laptop for the place where it is to lie; verified, recorded and used there."""
    by_the_caller(laptop, built, "greeting=1.0", "linked")
    run = laptop.submit("--wait", timeout=240)
    assert how_it_ended(run) == ("Completed", "", 0), run
    home = laptop.project / ".hpcrun/runs" / run["id"]
    made = run["config"]["environment"]
    word, where = (home / "user_logs/std_log.txt").read_text().split()
    assert word == "1.0" and where.startswith(f"{made['root']}/{made['name']}-x86_64")
    log = (home / "system_logs/environment.txt").read_text()
    assert "the caller's py-rattler makes it" in log and "greeting 1.0" in log
    url = f"{built.as_uri()}/{conda.PLATFORM}/greeting-1.0-"
    assert url in (home / "system_logs/packages.txt").read_text()
    (link,) = prefixes(laptop)
    folder, prefix = link.parent / link.readlink(), f"{made['root']}/{link.readlink()}/prefix"
    assert json.loads((folder / "environment.json").read_text())["tool"].startswith("py-rattler ")
    assert (folder / "prefix/bin/greet").read_text().startswith(f"#!{prefix}/bin/python\n")
    assert (folder / "prefix/share/linked.txt").read_text() == f"{prefix} linked 0\n"
    names = [path.name for path in folder.iterdir()]
    assert [name for name in names if name.startswith(("prefix", "wanted"))] == ["prefix"]
    again = laptop.submit("--wait")
    assert how_it_ended(again) == ("Completed", "", 0)
    assert prefixes(laptop) == [link]


def test_the_solver_has_the_last_word_by_the_caller(laptop: Laptop, built: Path) -> None:
    by_the_caller(laptop, built, "greeting=2.0", "old-friend")
    told = " ".join(laptop.refused().stderr.split())
    assert "old-friend * cannot be installed because there are no viable options" in told
    shown = laptop.show("@-1")
    assert (shown["state"], shown["reason"], shown["job_id"]) == ("Failed", "Environment", None)
    assert prefixes(laptop) == []


def test_by_the_caller_where_jobs_make_them(laptop: Laptop, built: Path) -> None:
    """No job is asked to make what it has nothing to make with; with micromamba there, one is."""
    laptop.site(environments={"build": "job", "partition": "short"})
    by_the_caller(laptop, built, "greeting=1.0", "linked")
    run = laptop.submit("--wait", timeout=240)
    assert how_it_ended(run) == ("Completed", "", 0), run
    home = laptop.project / ".hpcrun/runs" / run["id"]
    assert (home / "user_logs/std_log.txt").read_text().startswith("1.0\n")
    log = (home / "system_logs/environment.txt").read_text()
    assert "there is no micromamba, mamba or conda on login: the caller's py-rattler makes it" in log
    assert f"hpcrun-{run['config']['environment']['name']}" not in dict(laptop.jobs())
    by_the_caller(laptop, built, "greeting=1.1")
    made = laptop.json("env", "build", "run.yaml", "-t", "far")
    assert made["job_id"] is None and made["folder"] in [str(link.readlink()) for link in prefixes(laptop)]

    conda.stand_in(laptop.cluster.home() / ".local/bin", "micromamba")
    laptop.cluster.run("login", ["chown", "-R", "alice:", "/home/alice/.local"], user="root")
    laptop.config(command="greet", environment=environment("greeting=2.0"))
    run = laptop.submit("--wait", timeout=240)
    assert how_it_ended(run) == ("Completed", "", 0), run
    assert f"hpcrun-{run['config']['environment']['name']}" in dict(laptop.jobs())


def test_before_any_run_by_the_caller(laptop: Laptop, built: Path) -> None:
    by_the_caller(laptop, built, "greeting=1.0")
    made = laptop.json("env", "build", "run.yaml", "-t", "far")
    (link,) = prefixes(laptop)
    assert made["folder"] == str(link.readlink())


def test_the_caller_is_killed_and_comes_back(laptop: Laptop, built: Path) -> None:
    """While it sends: nothing half there has a name, and the next command that looks brings the rest. Two
    runs that want the same have one."""
    by_the_caller(laptop, built, "greeting=1.1")
    with laptop.by_relay() as relay:
        laptop.hpcrun("login", "far")
        relay.latency, before = 0.01, relay.bytes_up
        process = laptop.start("submit", "run.yaml", "-t", "far")
        laptop.cluster.wait_for(lambda: relay.bytes_up - before > 3_000_000, 90, "a part of it to be sent")
        process.kill()
        process.communicate(timeout=30)
        assert prefixes(laptop) == []
        relay.latency = 0
        laptop.hang_up()
        other = laptop.start("submit", "run.yaml", "-t", "far", "--wait")
        (kept, *_) = [row["id"] for row in laptop.json("ls", "-n", "9")["runs"]][::-1]
        laptop.hpcrun("wait", kept, timeout=240)
        other.communicate(timeout=240)
        assert [how_it_ended(run) for run in laptop.runs()] == [("Completed", "", 0)] * 2
    assert len(list(laptop.root("environments").glob("*/environment.json"))) == 2, "a folder, and its name"
