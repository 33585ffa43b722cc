"""Sweeps on a real Slurm: through arrays, in waves, judged by each policy, from a laptop, by ticks alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from hpcrun import BayesianParameterSampling, HyperDriveConfig, PrimaryMetricGoal, ScriptRunConfig
from hpcrun.models import expressions
from hpcrun.sweeps.results import TrialResult
from hpcrun.sweeps.sampling import propose
from tests.cluster.cluster import Cluster
from tests.engine_help import until
from tests.integration.support import Document, Login
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

SCRIPT = """\
# x; its loss: one report a step, as scripted for it, and the next one only once there is a go for it.
x=$2
echo "start $x" >>$HOME/starts
mkdir -p "$HPCRUN_RUN_DIR/metrics"
step=0
for value in $(sed -n "s/^$x: //p" script.txt); do
    step=$((step + 1))
    until [ -e "$HOME/go$step" ]; do sleep 0.1; done
    echo "{\\"n\\": \\"loss\\", \\"v\\": $value, \\"t\\": 1.0}" >>"$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"
done
until [ -e "$HOME/end" ]; do sleep 0.1; done
echo "end $x" >>$HOME/starts
"""


MEASURE = """\
mkdir -p "$HPCRUN_RUN_DIR/metrics"
awk -v x="$2" -v y="${4-0}" 'BEGIN {
    printf "{\\"n\\": \\"loss\\", \\"v\\": %.9f, \\"t\\": 1.0}\\n", (x - 2) ^ 2 + (y + 1) ^ 2
}' >"$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"
"""


def project(login: Login, curves: dict[int, Sequence[float]], **section: Any) -> str:
    """A sweep over x, of which each reports what is scripted for it; the folder."""
    lines = [f"{x}: {' '.join(map(str, values))}" for x, values in curves.items()]
    sweep = {"space": {"x": {"choice": [*curves]}}, "sampling": "grid", "metric": "loss", "goal": "minimize"}
    config = {"experiment": "exp", "script": "work.sh", "sweep": {**sweep, **section}}
    files = {"work.sh": SCRIPT, "script.txt": "\n".join(lines) + "\n", "sweep.yaml": json.dumps(config)}
    return login.project(files, "sweep")


def start(login: Login, folder: str, *options: str, target: str = "virtual") -> Document:
    return login.json("sweep", "start", f"{folder}/sweep.yaml", "-t", target, *options)


def status(login: Login, sweep: Document) -> Document:
    """How it stands, after a step."""
    return login.json("sweep", "status", sweep["id"])


def stands(login: Login, sweep: Document) -> dict[int, str]:
    """State and reason by x."""
    trials = sorted(status(login, sweep)["trials"], key=lambda trial: trial["parameters"]["x"])
    return {t["parameters"]["x"]: t["state"] + (f" {t['reason']}" if t["reason"] else "") for t in trials}


def go(login: Login, *names: str) -> None:
    for name in names:
        login.write(f"{login.home}/{name}", "")


def took_place(login: Login) -> tuple[list[str], int]:
    """What began, in its order, and how many ran at once at most."""
    starts, now, most = [], 0, 0
    for line in login.cat(f"{login.home}/starts").splitlines():
        word, _, x = line.partition(" ")
        starts += [x] if word == "start" else []
        now += 1 if word == "start" else -1
        most = max(most, now)
    return starts, most


def test_a_grid_through_arrays(login: Login) -> None:
    """All at once, two by two by Slurm's own limit, cut where the site's arrays end."""
    login.add_site("small", scheduler={"max_array_size": 4})
    folder = project(login, {x: [(x - 3) ** 2] for x in range(6)}, max_concurrent_runs=2)
    go(login, "go1", "end")
    sweep = start(login, folder, target="small")
    trials = login.json("ls", "--parent", sweep["id"], "-n", "100")["runs"]
    assert len({run["job_id"].partition("_")[0] for run in trials}) == 2, "two arrays"
    (ended,) = login.wait(sweep)
    assert (ended["state"], ended["message"]) == ("Completed", "")
    starts, most = took_place(login)
    assert sorted(starts) == list("012345") and most <= 2
    best = login.json("sweep", "best", sweep["id"])["trials"]
    assert [trial["parameters"]["x"] for trial in best[:3]] == [3, 2, 4] and best[0]["best"] == 0.0
    shown = login.hpcrun("sweep", "status", sweep["id"]).stdout
    assert "trials   6: 6 Completed" in shown


def test_a_grid_of_a_thousand(login: Login) -> None:
    """As tasks of one array: each runs once, to its end, and is judged by what it reported."""
    script = f'echo "$2" >>$HOME/starts\n{MEASURE}'
    section = {
        "space": {"x": {"choice": [*range(1000)]}}, "sampling": "grid", "metric": "loss", "goal": "minimize",
    }  # fmt: skip
    config = {"experiment": "exp", "script": "work.sh", "sweep": section}
    sweep = start(login, login.project({"work.sh": script, "sweep.yaml": json.dumps(config)}, "grid"))
    login.hpcrun("wait", sweep["id"], "--timeout", "600", timeout=640)
    told = login.json("sweep", "status", sweep["id"], "--no-refresh")
    assert (told["state"], told["states"]) == ("Completed", {"Completed": 1000})
    assert {trial["parameters"]["x"] for trial in told["trials"]} == {*range(1000)}
    assert all(trial["reports"] == 1 for trial in told["trials"])
    best = told["best"]
    assert (best["parameters"], best["best"]) == ({"x": 2}, 1.0)
    began = login.cat(f"{login.home}/starts").split()
    assert sorted(began, key=int) == [*map(str, range(1000))], "each once"


def test_in_waves_by_ticks_alone(login: Login) -> None:
    """Nobody waits and nobody looks: a policy judges, and the next begin as others end."""
    folder = project(
        login, {x: [x] for x in range(5)}, max_concurrent_runs=2, policy={"bandit": {"slack_amount": 99}}
    )
    go(login, "go1", "end")
    sweep = start(login, folder)
    assert len(login.json("ls", "--parent", sweep["id"])["runs"]) == 2

    def over() -> bool:
        done = login.hpcrun("tick")
        assert done.stdout + done.stderr == ""
        return bool(login.json("show", sweep["id"], "--no-refresh")["state"] == "Completed")

    login.cluster.wait_for(over, 90, "the sweep to end")
    starts, most = took_place(login)
    assert sorted(starts) == list("01234") and most <= 2


def test_bayesian_in_waves(login: Login) -> None:
    """Four at a time, each wave from what those before reported: what the sampler says of these once more is
    what ran; it has learned; and with this seed its best is at most a tenth of what random sampling finds."""
    uniform = {"uniform": [-5, 5]}
    section = {
        "space": {"x": uniform, "y": uniform}, "sampling": "bayesian", "seed": 7, "metric": "loss",
        "goal": "minimize", "max_total_runs": 20, "max_concurrent_runs": 4,
    }  # fmt: skip
    config = {"experiment": "exp", "script": "work.sh", "sweep": section}
    folder = login.project({"work.sh": MEASURE, "sweep.yaml": json.dumps(config)}, "bayes")
    by_chance = start(login, folder, "--set", "sweep.sampling=random")
    login.wait(by_chance)
    sweep = start(login, folder)

    def ended(count: int) -> bool:
        # Which looks at runs, and takes no step of a sweep.
        runs = login.json("ls", "--all", "--parent", sweep["id"])["runs"]
        return [run["state"] for run in runs] == ["Completed"] * count

    for wave in range(1, 6):
        login.cluster.wait_for(partial(ended, 4 * wave), 60, f"{wave} waves to end")
        assert login.hpcrun("tick").stderr == ""
    told = login.json("sweep", "status", sweep["id"], "--no-refresh")
    assert told["state"] == "Completed"
    trials = sorted(told["trials"], key=lambda trial: int(trial["number"]))
    values = [float(trial["best"]) for trial in trials]
    known = [TrialResult(n, t["parameters"], t["best"], "Completed", 1) for n, t in enumerate(trials)]
    axis = expressions.uniform(-5, 5)
    asked = HyperDriveConfig(
        run_config=ScriptRunConfig(".", "work.sh"),
        hyperparameter_sampling=BayesianParameterSampling({"x": axis, "y": axis}, seed=7),
        primary_metric_name="loss",
        primary_metric_goal=PrimaryMetricGoal.MINIMIZE,
        max_total_runs=20,
        max_concurrent_runs=4,
    )
    for first in range(0, 20, 4):
        wanted = propose(asked, sweep["id"], known[:first], first, 4)
        assert [trial["parameters"] for trial in trials[first : first + 4]] == wanted
    assert median(values[12:]) < median(values[:12]) / 2, values
    by_chance = status(login, by_chance)
    assert by_chance["states"] == {"Completed": 20}
    assert min(values) == told["best"]["best"] <= by_chance["best"]["best"] / 10


def test_stopped_with_most_of_it_in_the_queue(login: Login) -> None:
    """All of it is canceled by a few words to Slurm, and nothing begins after."""
    folder = project(login, {x: [x] for x in range(40)}, max_concurrent_runs=2)
    sweep = start(login, folder)
    login.cluster.wait_for(lambda: "Running" in stands(login, sweep).values(), 60, "one to run")
    login.hpcrun("cancel", sweep["id"])
    (ended,) = login.wait(sweep)
    assert (ended["state"], ended["reason"]) == ("Canceled", "Canceled")
    assert {*stands(login, sweep).values()} == {"Canceled Canceled"}
    login.cluster.wait_for(lambda: not login.slurm("squeue", "--noheader").strip(), 60, "an empty queue")


def test_refused_by_slurm(login: Login) -> None:
    folder = project(login, {0: [1], 1: [1]})
    done = login.hpcrun(
        "sweep", "start", f"{folder}/sweep.yaml", "-t", "virtual", "--set", "resources.account=nobody",
        "--key", "k", check=False,
    )  # fmt: skip
    assert done.returncode == 20 or "account" in done.stderr.lower(), done.stderr
    (sweep,) = login.json("ls")["runs"]
    assert (sweep["state"], sweep["reason"], sweep["key"]) == ("Failed", "Rejected", None)


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_from_a_laptop_by_ticks(laptop: Laptop) -> None:
    """Over SSH: what trials report comes home, is judged here, and the site's jobs end for it."""
    curves = {0: [1], 1: [9], 2: [2]}
    (laptop.project / "src" / "work.sh").write_text(SCRIPT)
    lines = [f"{x}: {' '.join(map(str, values))}" for x, values in curves.items()]
    (laptop.project / "src" / "script.txt").write_text("\n".join(lines) + "\n")
    sweep = {"space": {"x": {"choice": [*curves]}}, "sampling": "grid", "metric": "loss", "goal": "minimize"}
    laptop.config(script="work.sh", sweep={**sweep, "policy": {"bandit": {"slack_amount": 1}}})
    started = laptop.json("submit", "run.yaml", "-t", "far")
    laptop.cluster.write("/home/alice/go1", "")
    # A report is judged once, by what the others had reported until then.
    until(lambda: laptop.reported() == 3, "all to have reported", seconds=90)

    def by_x() -> dict[int, str]:
        done = laptop.hpcrun("tick")
        assert done.stdout + done.stderr == ""
        told = laptop.json("sweep", "status", started["id"], "--no-refresh")["trials"]
        return {trial["parameters"]["x"]: trial["state"] for trial in told}

    until(lambda: by_x() == {0: "Running", 1: "Canceled", 2: "Running"}, "one to be stopped", seconds=90)
    laptop.cluster.write("/home/alice/end", "")
    until(lambda: {*by_x().values()} == {"Completed", "Canceled"}, "the others to end", seconds=90)
    laptop.hpcrun("tick")
    shown = laptop.json("sweep", "best", started["id"])
    assert [trial["best"] for trial in shown["trials"]] == [1.0, 2.0, 9.0]
    assert laptop.json("show", started["id"])["state"] == "Completed"
