"""Environments that hpcrun makes, on a real cluster: once, whoever asks, and whatever befalls its maker."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.procs import Process
from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended, states
from tests.wheel_help import wheel

pytestmark = pytest.mark.cluster

WHEELS = "/home/alice/wheels"
OPTIONS = ["--no-index", f"--find-links={WHEELS}"]
PATH = "/home/alice/bin:/usr/local/bin:/usr/bin:/bin"
SHOW = "import sys, tinypkg\nprint(tinypkg.WORD, sys.prefix)\n"
# Run by builders alone: a run has no HPCRUN_ENV.
COUNT = '[ -z "${HPCRUN_ENV-}" ] || echo made >>/home/alice/made'
UNTIL_TOLD = f'{COUNT}\nuntil [ -z "${{HPCRUN_ENV-}}" ] || [ -e /home/alice/go ]; do sleep 0.2; done'


@pytest.fixture
def alice(login: Login) -> Login:
    """With wheels of her own, and uv."""
    home = login.cluster.home()
    wheel(home / "wheels", "tinydep", "1.0", "")
    wheel(home / "wheels", "tinypkg", "1.0", "import tinydep\nWORD = 'one'\n", ["tinydep"])
    wheel(home / "wheels", "tinypkg", "2.0", "import tinydep\nWORD = 'two'\n", ["tinydep"])
    login.cluster.run("login", ["mkdir", "-p", "/home/alice/bin"])
    login.cluster.run("login", ["ln", "-s", f"{sys.prefix}/bin/uv", "/home/alice/bin/uv"])
    login.project({"show.py": SHOW, "requirements.txt": "tinypkg<2 # the old one\n"})
    return login


def config(setup: str | None = None, **venv: Any) -> Document:
    section = {"pip_options": OPTIONS, "python": SYSTEM_PYTHON, **venv}
    return {"script": "show.py", "environment": {"venv": section, **({"setup": setup} if setup else {})}}


def packages(*names: str, setup: str | None = COUNT) -> Document:
    return config(setup, packages=list(names))


def submitting(alice: Login, configuration: Document, number: int = 0, host: str = "login") -> Any:
    """A submission under way."""
    file = alice.write(f"/home/alice/project/run{number}.yaml", json.dumps(configuration))
    argv = alice.argv("submit", file, "-t", "virtual", "--json")
    return alice.cluster.popen(host, argv, cwd="/home/alice", env={"PATH": PATH})


def made(alice: Login) -> int:
    """How often it was begun to make one."""
    path = alice.cluster.home() / "made"
    return len(path.read_text().split()) if path.exists() else 0


def alice_runs(cluster: Cluster, words: bytes) -> list[Process]:
    """Her processes on the login node that have these words on their command line."""
    found = []
    for each in cluster.processes("login", user="alice"):
        try:
            if words in Path(f"/proc/{each.pid}/cmdline").read_bytes():
                found.append(each)
        except OSError:  # it has ended
            continue
    return found


def named(alice: Login) -> list[str]:
    """The environments that are there."""
    folder = alice.cluster.home() / ".hpcrun/environments"
    return sorted(path.name for path in folder.iterdir() if path.is_symlink() and path.suffix != ".lock")


def test_a_virtual_environment_is_made_and_used(alice: Login) -> None:
    """By venv and pip, of a requirements file; what is in it stands with the run; the next has it at once."""
    run = alice.finish(config(COUNT, requirements="requirements.txt"))
    assert how_it_ended(run) == ("Completed", "", 0), run
    assert states(run)[:3] == ["NotStarted", "Preparing", "Queued"]
    word, prefix = alice.log(run).split()
    environment = run["config"]["environment"]
    assert word == "one" and prefix.startswith(f"{environment['root']}/{environment['name']}-")
    assert "tinydep==1.0\n" in alice.read(run, "system_logs/packages.txt")
    assert "Successfully installed tinydep-1.0 tinypkg-1.0" in alice.read(run, "system_logs/environment.txt")
    again = alice.finish(config(COUNT, requirements="requirements.txt"))
    assert "Preparing" not in states(again)
    assert alice.log(again) == alice.log(run)
    assert made(alice) == 1


def test_eight_at_once_on_two_hosts_make_it_once(alice: Login, cluster: Cluster) -> None:
    """Fault 24; the builds are counted."""
    asked = [
        submitting(alice, packages("tinypkg==2.0"), number, ["login", "node1"][number % 2])
        for number in range(8)
    ]
    runs = []
    for each in asked:
        out, err = each.communicate(timeout=180)
        assert each.wait() == 0, err
        runs.append(json.loads(out))
    assert made(alice) == 1
    assert len(named(alice)) == 1
    for run in alice.wait(*runs, timeout=180):
        assert how_it_ended(run) == ("Completed", "", 0), run
        assert alice.log(run).split()[0] == "two"


def test_a_failed_build_is_the_runs_failure(alice: Login) -> None:
    """In the resolver's own words; nothing is submitted, and the next run tries again."""
    done = alice.hpcrun(
        "submit",
        alice.write("/home/alice/project/run.yaml", json.dumps(packages("tinypkg==9"))),
        *("-t", "virtual"),
        check=False,
        env={"PATH": PATH},
    )
    assert done.returncode == 6, done.stderr
    [row] = alice.json("ls")["runs"]
    run = alice.show(row)
    assert how_it_ended(run) == ("Failed", "Environment", None)
    assert "there is no version of tinypkg==9" in run["message"]
    assert run["job_id"] is None and alice.slurm("squeue", "--noheader") == ""
    told = alice.hpcrun("explain", run["id"]).stdout
    assert "tinypkg==9" in told and "unsatisfiable" in told
    assert "unsatisfiable" in alice.read(run, "system_logs/environment.txt")
    wheel(alice.cluster.home() / "wheels", "tinypkg", "9", "WORD = 'nine'\n")
    assert how_it_ended(alice.finish(packages("tinypkg==9"), env={"PATH": PATH}))[0] == "Completed"
    assert made(alice) == 2


def test_the_builder_is_killed(alice: Login, cluster: Cluster) -> None:
    """kill -9 while it builds: nothing has the good name, and who waits has it made anew."""
    file = alice.write("/home/alice/project/run.yaml", json.dumps(packages("tinypkg", setup=UNTIL_TOLD)))
    code = (
        "import sys, hpcrun.engine.environments as e; e.DEAD = 3.0\n"
        "from hpcrun.cli.main import cli; cli(sys.argv[1:])"
    )
    argv = [sys.executable, "-c", code, "submit", file, "-t", "virtual", "--wait", "--json"]
    waiting = cluster.popen("login", argv, env={"PATH": PATH})
    cluster.wait_for(lambda: made(alice) == 1, 60, "the builder to begin")
    for each in alice_runs(cluster, b"/build.sh\0"):
        each.signal(signal.SIGKILL)
    assert named(alice) == []
    cluster.wait_for(lambda: made(alice) == 2, 60, "another builder to begin")
    alice.write("/home/alice/go", "")
    out, err = waiting.communicate(timeout=120)
    assert waiting.wait() == 0, err
    assert how_it_ended(json.loads(out)) == ("Completed", "", 0)
    assert len(named(alice)) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_whoever_waits_is_gone(alice: Login, cluster: Cluster, number: signal.Signals) -> None:
    """The build goes on, and whoever looks next submits the run, once."""
    waiting = submitting(alice, packages("tinypkg", setup=UNTIL_TOLD))
    cluster.wait_for(lambda: made(alice) == 1, 60, "the builder to begin")
    [client] = alice_runs(cluster, b"hpcrun\0submit")
    client.signal(number)
    _, err = waiting.communicate(timeout=60)
    assert waiting.wait() == (130 if number == signal.SIGINT else -signal.SIGKILL), err
    [row] = alice.json("ls")["runs"]
    assert row["state"] == "Preparing"
    alice.hpcrun("tick")
    assert alice.show(row)["state"] == "Preparing"
    alice.write("/home/alice/go", "")
    cluster.wait_for(lambda: named(alice), 60, "the environment")
    alice.hpcrun("tick")
    [run] = alice.wait(row)
    assert how_it_ended(run) == ("Completed", "", 0)
    assert made(alice) == 1
    jobs = alice.slurm("sacct", "-X", "-n", "-P", "-S", "now-1hours", f"--name={run['id']}", "--format=JobID")
    assert jobs.split() == [run["job_id"]]


def test_the_disk_is_full(alice: Login, cluster: Cluster) -> None:
    """Nothing of it has the good name, its room is given back, the words say so; with room, it is made."""
    small = "/home/alice/small"
    cluster.run("login", ["mkdir", small])
    size = "size=2m,mode=700,uid=2001"
    cluster.run("login", ["mount", "-t", "tmpfs", "-o", size, "tmpfs", small], user="root")
    try:
        alice.add_site("small", environments={"root": f"{small}/environments"})
        wheel(cluster.home() / "wheels", "large", "1", f"WORD = {'x' * 6_000_000!r}\n")
        file = alice.write("/home/alice/project/run.yaml", json.dumps(packages("large")))
        build = ("env", "build", file, "-t", "small")
        done = alice.hpcrun(*build, check=False, env={"PATH": PATH})
        assert done.returncode == 8 and "No space left" in done.stderr.splitlines()[-1], done.stderr
        [left] = alice.json("env", "ls", "-t", "small")["environments"]
        assert left["state"] == "failed" and left["bytes"] < 100_000
        cluster.run("login", ["mount", "-o", "remount,size=50m", small], user="root")
        assert alice.hpcrun(*build, env={"PATH": PATH}).returncode == 0
    finally:
        cluster.run("login", ["umount", "-l", small], user="root")


def test_a_job_makes_it(alice: Login, cluster: Cluster) -> None:
    """On a partition of the site's choice, one for two runs, which are Preparing meanwhile."""
    alice.add_site("byjob", environments={"build": "job", "partition": "short"})
    first, second = (
        alice.submit(packages("tinypkg", setup=UNTIL_TOLD), "-t", "byjob", env={"PATH": PATH})
        for _ in range(2)
    )
    names = {
        line.split("|")[0]: line.split("|")[1]
        for line in alice.slurm("squeue", "--noheader", "--format=%j|%P").splitlines()
    }
    name = f"hpcrun-{first['config']['environment']['name']}"
    assert names == {name: "short", first["id"]: "main", second["id"]: "main"}
    assert alice.show(first)["state"] == "Preparing"
    alice.write("/home/alice/go", "")
    for run in alice.wait(first, second):
        assert how_it_ended(run) == ("Completed", "", 0), run
        assert alice.log(run).split()[0] == "two"
        assert "Preparing" in states(run)
    assert made(alice) == 1
    bad = alice.submit(packages("tinypkg==9"), "-t", "byjob", env={"PATH": PATH})
    [run] = alice.wait(bad)
    assert how_it_ended(run)[:2] == ("Failed", "Environment"), run
    assert "tinypkg==9" in run["message"]
    assert "tinypkg==9" in alice.read(run, "system_logs/environment.txt")


@pytest.mark.parametrize("how", ["canceled", "killed"])
def test_the_job_that_makes_it_is_ended(alice: Login, cluster: Cluster, how: str) -> None:
    """By somebody else, in the middle: all that wait for it have failed, and are told why."""
    alice.add_site("byjob", environments={"build": "job", "partition": "short"})
    waiting = [
        alice.submit(packages("tinypkg", setup=UNTIL_TOLD), "-t", "byjob", env={"PATH": PATH})
        for _ in range(2)
    ]
    cluster.wait_for(lambda: made(alice) == 1, 60, "the builder to begin")
    name = f"hpcrun-{waiting[0]['config']['environment']['name']}"
    number, node = alice.slurm("squeue", "--noheader", f"--name={name}", "--format=%i %N").split()
    if how == "canceled":
        alice.slurm("scancel", number)
    else:
        for each in cluster.processes(node, user="alice"):
            each.signal(signal.SIGKILL)
    for run in alice.wait(*waiting, timeout=120):
        assert how_it_ended(run)[:2] == ("Failed", "Environment"), run
        why = alice.json("explain", run["id"])
        assert why["cause"] == "Environment"
        words = "it was ended by a signal" if how == "canceled" else f"job {number}, which was to make it"
        assert words in why["words"], why
    assert [each for each in named(alice) if ".job-" not in each] == []


MAP = """\
import json, sys
from hpcrun import Environment, Experiment, Workspace
import ours

section = json.loads(sys.argv[1])
runs = Experiment(Workspace.from_config(), "many").map(
    ours.word, [1, 2, 3, 4], compute_target=sys.argv[2], environment=Environment("tiny", **section)
)
print(json.dumps([[run.id, run.result(60)] for run in runs]))
"""


@pytest.mark.parametrize("build", ["login", "job"])
def test_the_runs_of_a_map_share_one(alice: Login, build: str) -> None:
    """The first of them waits for it, or all do for its job; the others are tasks of one array."""
    alice.add_site("other", environments={"build": build})
    code = "def word(number):\n    import tinypkg\n    return [number, tinypkg.WORD]\n"
    project = alice.project({"ours.py": code, "map.py": MAP})
    section = json.dumps(packages("tinypkg")["environment"])
    env = {"PATH": PATH, "HPCRUN_WORKSPACE": alice.home}
    argv = [sys.executable, "map.py", section, "other"]
    done = alice.cluster.run("login", argv, cwd=project, env=env, timeout=240)
    found = json.loads(done.stdout)
    assert [result for _, result in found] == [[number, "two"] for number in (1, 2, 3, 4)]
    jobs = [alice.json("show", run_id)["job_id"] for run_id, _ in found]
    assert "_" not in jobs[0] and len({job.partition("_")[0] for job in jobs[1:]}) == 1
    assert all("_" in job for job in jobs[1:]) and made(alice) == 1


def sweep(alice: Login, build: str, configuration: Document) -> tuple[Document, list[Document]]:
    """A sweep of five, two at once, of which each has that environment; and its trials, once it has ended."""
    site = alice.add_site(f"by{build}", environments={"build": build})
    section = {"space": {"x": {"choice": [*range(5)]}}, "sampling": "grid", "metric": "m", "goal": "minimize"}
    text = json.dumps({**configuration, "sweep": {**section, "max_concurrent_runs": 2}})
    file = alice.write("/home/alice/project/sweep.yaml", text)
    started = alice.hpcrun(
        "sweep", "start", file, "-t", site, "--wait", "--json", env={"PATH": PATH}, check=False, timeout=240
    )
    assert started.returncode in (0, 6, 20), started.stderr
    (ended,) = alice.json("ls")["runs"]
    return ended, alice.json("ls", "--parent", ended["id"])["runs"]


@pytest.mark.parametrize("build", ["login", "job"])
def test_a_sweeps_environment_is_made_before_its_trials(alice: Login, build: str) -> None:
    """Once, for all of them; which then are tasks of one array, and no more at once than may be."""
    ended, trials = sweep(alice, build, packages("tinypkg==1.0"))
    assert (ended["state"], ended["message"], len(trials)) == ("Completed", "", 5)
    assert {alice.log(alice.show(run)).split()[0] for run in trials} == {"one"}
    assert made(alice) == 1
    jobs = [run["job_id"] for run in trials]
    assert len({job.partition("_")[0] for job in jobs}) == 1 and all("_" in job for job in jobs)
    said = alice.slurm("sacct", "-X", "-n", "-P", f"--jobs={','.join(jobs)}", "--format=Start,End")
    times = [line.split("|") for line in said.splitlines()]
    assert max(sum(a <= b < end for a, end in times) for b, _ in times) <= 2


@pytest.mark.parametrize("build", ["login", "job"])
def test_a_sweep_whose_environment_cannot_be_made(alice: Login, build: str) -> None:
    """It ends, and says so in the words of what failed."""
    ended, trials = sweep(alice, build, packages("tinypkg==9"))
    assert ended["state"] == "Failed"
    said = ended["message"] if build == "login" else alice.show(trials[0])["message"]
    assert "could not be made" in said and "tinypkg==9" in said
    assert not [run for run in trials if run["state"] != "Failed"]
