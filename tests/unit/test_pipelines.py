"""Pipelines here: what is refused, submitted as one, killed in the middle, canceled; the page on them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Environment, Experiment, Pipeline, Run, ScriptRunConfig, Workspace
from hpcrun.config.load import read_run_config
from hpcrun.config.pipeline import in_order, load_pipeline
from hpcrun.engine.gc import snapshots_in_use
from hpcrun.engine.refresh import refresh
from hpcrun.engine.verify import verify
from hpcrun.errors import ConfigError, SubmissionRejected
from hpcrun.shells.local import LocalShell
from hpcrun.states import RunState
from tests.cli_help import Project, document, hpcrun, make_project, refused, typed
from tests.docs_help import DOCS, ROOT, blocks, play, type_here, write_here
from tests.engine_help import PATIENCE, ScriptedScheduler, source, until, use, workspace

pytestmark = pytest.mark.slow

STARTS = 'echo "$HPCRUN_RUN_ID" >> "$STARTS"; '
"""Counts the starts of a step, so that a second one cannot go unseen."""


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as ws:
        yield ws


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    shutil.copytree(ROOT / "examples" / "pipeline", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    yield from make_project(tmp_path / "project")


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return source(tmp_path / "src", train_py="print('trained')")


def names(run: Run) -> dict[str, Run]:
    return {child.properties["step"]: child for child in [*run.get_children()][::-1]}


def ends(run: Run) -> dict[str, tuple[str, str]]:
    return {name: (child.status, child.record.reason) for name, child in names(run).items()}


def test_the_page_says_what_happens() -> None:
    """docs/pipelines.md, done as it says."""
    folder = Path.home() / "project"
    shutil.copytree(ROOT / "examples" / "pipeline", folder)
    write = write_here(folder)
    play(blocks(DOCS / "pipelines.md"), str(Path.home()), type_here(folder), write)
    assert (folder / "pipeline.yaml").read_text().partition("experiment:")[2] == (
        ROOT / "examples" / "pipeline" / "pipeline.yaml"
    ).read_text().partition("experiment:")[2], "the page shows the example"


BAD = {
    "steps:\n": "p.yaml:1:1: steps: expected steps by their names",
    "steps: [a]\n": "p.yaml:1:1: steps: expected steps by their names",
    "steps:\n  1a: {command: x}\n": "p.yaml:2:3: steps.1a: not a name for a step",
    "steps:\n  a: x\n": "p.yaml:2:3: steps.a: expected keys and values",
    "steps:\n  a: {command: x, experiment: e}\n": "p.yaml:2:19: steps.a.experiment: all steps are of one",
    "steps:\n  a: {command: x, tagz: y}\n": "p.yaml:2:19: tagz: unknown key: did you mean tags?",
    "resources: {time: soon}\nsteps:\n  a: {command: x}\n  b: {command: x}\n": "p.yaml:1:19: resources.time:",
    "steps:\n  a: {command: x}\n  b: {command: x, needs: [aa]}\n": (
        "p.yaml:3:27: steps.b.needs[0]: there is no step aa\n    did you mean a?"
    ),
    "steps:\n  a: {command: x, inputs: {d: steps.zzz/outputs}}\n": (
        "p.yaml:2:31: steps.a.inputs.d: there is no step zzz\n    there are: a"
    ),
    "steps:\n  a: {command: x, inputs: {d: steps.a/x}}\n": "p.yaml:2:31: inputs.d: expected RUN/outputs",
    "steps:\n  a: {command: x, needs: [a]}\n": (
        "p.yaml:2:27: steps.a.needs[0]: these steps wait for each other: a needs a"
    ),
    "steps:\n  a: {command: x, needs: [c]}\n  b: {command: x, needs: [a]}\n  c: {command: x, needs: [b]}\n": (
        "p.yaml:3:27: steps.b.needs[0]: these steps wait for each other: a needs c needs b needs a"
    ),
    "steps:\n  a: {command: x, needs: ['a b']}\n": "p.yaml:2:27: needs[0]: names no step",
}


@pytest.mark.parametrize("text", BAD)
def test_mistakes_have_their_places(text: str, tmp_path: Path) -> None:
    Path("p.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(Path("p.yaml"))
    assert str(caught.value).startswith(BAD[text]), str(caught.value)
    assert len(caught.value.problems) == 1, "what all steps have in common is told once"


def test_layers() -> None:
    """Common keys, the step's own, options for all, options for one."""
    text = (
        "experiment: e\ndisplay_name: all\ndescription: why\ncompute_target: local\n"
        "resources: {time: 1h, nodes: 1}\ntags: {of: all}\nscript: a.py\nsteps:\n  first:\n"
        "  second: {command: x, resources: {time: 2h}, display_name: two, tags: {my: own}}\n"
    )
    Path("p.yaml").write_text(text)
    made = load_pipeline(
        Path("p.yaml"),
        overrides=["resources.nodes=2", "steps.first.resources.time=3h", "steps.first.arguments=[a]"],
        flags={"description": "said"},
    )
    first, second = made.steps["first"], made.steps["second"]
    assert (made.experiment, made.display_name, made.description) == ("e", "all", "said")
    assert [config.display_name for config in (first, second)] == ["first", "two"]
    assert [config.description for config in (first, second)] == [None, None]
    assert [config.resources.time for config in (first, second)] == [3 * 3600, 2 * 3600]
    assert {config.resources.nodes for config in (first, second)} == {2}
    assert (first.script, first.arguments, second.script, second.command) == ("a.py", ["a"], None, "x")
    assert second.tags == {"of": "all", "my": "own"}
    with pytest.raises(ConfigError, match=r"--set: steps\.frist: there is no step"):
        load_pipeline(Path("p.yaml"), overrides=["steps.frist.script=b.py"])


def test_in_order() -> None:
    steps = {
        "c": ScriptRunConfig(".", command="x", needs=["any:b"]),
        "b": ScriptRunConfig(".", command="x", inputs={"a": "steps.a/outputs", "p": "/x"}),
        "a": ScriptRunConfig(".", command="x"),
    }
    assert in_order(steps) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="at least one step"):
        in_order({})


def test_one_bad_step_and_nothing_is_submitted(project: Project) -> None:
    """Whatever can be known before is known before: the script, the site, a run outside."""
    for change, words in (
        ("steps.evaluate.script=nope.py", "there is no nope.py"),
        ("steps.evaluate.compute_target=nowhere", "nowhere"),
        ("steps.evaluate.secrets.TOKEN=env:NO_SUCH", "NO_SUCH"),
    ):
        assert words in refused("submit", "pipeline.yaml", "--set", change, code=3)
    assert "-- ARGS is not for a pipeline" in refused("check", "pipeline.yaml", "--", "x", code=2)
    assert not (project.folder / ".hpcrun").exists()
    typed("submit", project.config("exit 3", "bad.yaml"), "--wait", "--name", "bad", code=20)
    change = "steps.evaluate.after=[bad]"
    assert "wait for" in refused("submit", "pipeline.yaml", "--set", change, code=3)
    typed("archive", "--experiment", "exp")
    assert "archived" in refused("submit", "pipeline.yaml", "--experiment", "exp", code=9)
    assert len(document("ls", "--all")["runs"]) == 1


def test_steps_on_different_sites(project: Project) -> None:
    """Each scheduler knows its own: the next step is sent once the one before it has ended."""
    (project.folder / "site_configs").mkdir()
    (project.folder / "site_configs" / "other.yaml").write_text("scheduler: {type: local}\n")
    made = document("submit", "pipeline.yaml", "--wait", "--set", "steps.train.compute_target=other")
    assert (made["state"], made["target"]) == ("Completed", "several")


@pytest.mark.parametrize("options", [["--parent", "@-1"], ["--", "x"]])
def test_options_that_are_for_one_run(project: Project, options: list[str]) -> None:
    assert "is not for a pipeline" in refused("submit", "pipeline.yaml", *options, code=2)


def test_all_steps_are_checked(project: Project) -> None:
    """In one report, by step; what the steps share is told once."""
    fine = document("check", "pipeline.yaml")
    assert (fine["ok"], fine["target"], fine["start"]) == (True, "local", None)
    wrong = ["--set", "steps.evaluate.script=nope.py", "--set", "steps.train.resources.nodes=3"]
    report = document("check", "pipeline.yaml", *wrong, code=3)
    found = {(each["step"], each["code"]) for each in report["findings"] if each["level"] == "problem"}
    assert found == {("evaluate", "Script"), ("train", "Nodes")}
    told = typed("check", "pipeline.yaml", "--set", "steps.evaluate.script=nope.py", code=3)
    with workspace(project.folder.parent / "other") as ws:
        assert ws.check(load_pipeline(project.folder / "pipeline.yaml")).ok
    assert "problem  Script: step evaluate: " in told and "nope.py" in told
    assert not (project.folder / ".hpcrun").exists()


def test_followed(project: Project) -> None:
    """All that the steps print, each under its name, in their order."""
    done = hpcrun("submit", "pipeline.yaml", "--follow")
    assert done.exit_code == 0
    heads = re.findall(r"^==> (\w+) \(", done.stderr, re.MULTILINE)
    assert heads == ["prepare", "train", "evaluate"]
    assert "mean square error" in done.stdout


def test_once_more(project: Project) -> None:
    """The same steps with the same code, of which each has the files of the new ones before it."""
    first = document("submit", "pipeline.yaml", "--wait")
    evaluate = project.folder / "evaluate.py"
    evaluate.write_text("raise SystemExit(3)\n")
    again = document("rerun", first["id"], "--wait", "--set", "steps.train.arguments=[--epochs, 5]")
    assert (again["state"], again["properties"]["rerun_of"]) == ("Completed", first["id"])
    with Workspace.open(project.folder) as opened:
        steps = names(Run.get(opened, again["id"]))
        inputs = steps["train"].record.config["inputs"]
        assert inputs == {"data": f"{steps['prepare'].record.run_dir}/code/outputs/points.csv"}
        train = read_run_config(steps["train"].record.config["yaml"], "its own")
        assert train.arguments == ["--epochs", 5]
        assert steps["evaluate"].display_name == "evaluate"
    assert document("rerun", first["id"], "--wait", "--fresh", code=20)["state"] == "Failed"
    assert "not a key of a step" in refused("rerun", first["id"], "--set", "steps.no.script=x.py", code=3)
    assert "--parent is not for a pipeline" in refused("rerun", first["id"], "--parent", "@-1", code=2)


def test_once_more_in_python(ws: Workspace, src: Path) -> None:
    """The same steps with the code that each had; with ``fresh`` as it is now, and under a key once."""
    fill = ScriptRunConfig(src, command="echo 7 >outputs/n.txt")
    use = ScriptRunConfig(src, "train.py", inputs={"n": "steps.fill/outputs/n.txt"})
    first = Experiment(ws, "e").submit(Pipeline({"fill": fill, "use": use}), tags={"a": "b"})
    first.wait_for_completion()
    (src / "train.py").write_text("raise SystemExit(3)\n")
    again = first.rerun(key="k", tags={"c": "d"})
    assert (again.type, again.tags, again.properties["rerun_of"]) == ("pipeline", {"c": "d"}, first.id)
    assert again.wait_for_completion()["status"] == "Completed"
    steps, before = names(again), names(first)
    assert steps["use"].get_snapshot_id() == before["use"].get_snapshot_id()
    assert steps["use"].id != before["use"].id
    folder = steps["fill"].record.run_dir
    assert steps["use"].record.config["inputs"] == {"n": f"{folder}/code/outputs/n.txt"}
    assert first.rerun(key="k").id == again.id
    now = first.rerun(fresh=True)
    assert now.wait_for_completion(raise_on_error=False)["status"] == "Failed"
    assert len([*Experiment(ws, "e").get_runs()]) == 3


def test_as_one(project: Project) -> None:
    """One snapshot, one parent; what commands say of it and of its steps."""
    made = document("submit", "pipeline.yaml", "--wait", "--key", "k", "--name", "nightly", "--tag", "a=b")
    assert (made["type"], made["state"], made["new"]) == ("pipeline", "Completed", True)
    assert made["display_name"] == "nightly" and made["tags"] == {"a": "b"}
    again = document("submit", "pipeline.yaml", "--key", "k")
    assert (again["id"], again["new"]) == (made["id"], False)
    with Workspace.open(project.folder) as opened:
        steps = names(Run.get(opened, made["id"]))
        assert [*steps] == ["prepare", "train", "evaluate"]
        assert {step.get_snapshot_id() for step in steps.values()} == {made["snapshot"]["id"]}
        assert {step.tags["a"] for step in steps.values()} == {"b"}
        assert verify(opened.history.paths, LocalShell()).findings == []
    assert [run["id"] for run in document("ls")["runs"]] == [made["id"]]
    assert typed("ls", "--parent", "nightly").count("Completed") == 3
    shown = typed("show", "nightly")
    assert f"steps       prepare   {steps['prepare'].id[-8:]}  Completed\n" in shown
    assert "All steps of the pipeline completed." in typed("explain", "nightly")
    told = refused("logs", "nightly", code=2)
    assert f"train: hpcrun logs {steps['train'].id[-8:]}" in told
    typed("archive", "nightly")
    assert document("ls")["runs"] == []
    typed("history", "gc", "nightly", "--yes")
    assert document("ls", "--all")["runs"] == []


def test_after_a_pipeline(ws: Workspace, src: Path) -> None:
    """It stands for all of its steps."""
    steps = {name: ScriptRunConfig(src, command="true") for name in ("a", "b")}
    whole = Experiment(ws, "e").submit(Pipeline(steps))
    last = Experiment(ws, "e").submit(ScriptRunConfig(src, command="true"), after=[whole])
    assert {entry["run"] for entry in last.record.after} == {child.id for child in whole.get_children()}
    last.wait_for_completion(timeout=PATIENCE)
    with pytest.raises(ConfigError, match="is a pipeline"):
        Experiment(ws, "e").submit(ScriptRunConfig(src, command="true"), after=[f"notok:{whole.id}"])


def test_from_python(ws: Workspace, src: Path) -> None:
    steps = {
        "fails": ScriptRunConfig(src, command="echo about to; exit 3"),
        "next": ScriptRunConfig(src, command="true", needs=["fails"]),
        "tidy": ScriptRunConfig(src, command="echo tidied", needs=["any:next"]),
    }
    run = Experiment(ws, "e").submit(Pipeline(steps, description="why"), tags={"a": "b"})
    out = io.StringIO()
    run.wait_for_completion(show_output=True, raise_on_error=False, stream=out, timeout=PATIENCE)
    assert "about to\n" in out.getvalue() and "tidied\n" in out.getvalue()
    assert ends(run) == {
        "fails": ("Failed", "BadExit"), "next": ("Canceled", "Dependency"), "tidy": ("Completed", ""),
    }  # fmt: skip
    assert (run.status, run.description, run.type) == ("Failed", "why", "pipeline")
    assert run.explain()["cause"] == "StepFailed"
    assert run.parent is None and names(run)["tidy"].parent is not None


def test_canceled_as_one(ws: Workspace, src: Path) -> None:
    steps = {
        "long": ScriptRunConfig(src, command="sleep 600"),
        "next": ScriptRunConfig(src, command="true", needs=["long"]),
    }
    run = Experiment(ws, "e").submit(Pipeline(steps))
    until(lambda: run.get_status() == "Running")
    assert "1 steps 0" not in run.explain()["words"] and "2 steps 0 have ended" in run.explain()["words"]
    run.cancel()
    run.wait_for_completion(timeout=PATIENCE)
    assert (run.status, run.record.reason) == ("Canceled", "Canceled")
    assert ends(run) == {"long": ("Canceled", "Canceled"), "next": ("Canceled", "Canceled")}


def test_a_step_that_the_scheduler_refuses(ws: Workspace, src: Path) -> None:
    """The others are canceled, and the key is free for the pipeline as it should have been."""
    no = SubmissionRejected("Slurm refused the job: invalid account", hint="Your accounts: …")
    use(ws, ScriptedScheduler(["1", no]))
    steps = {
        "a": ScriptRunConfig(src, command="true"),
        "b": ScriptRunConfig(src, command="true", needs=["a"]),
        "c": ScriptRunConfig(src, command="true", needs=["b"]),
    }
    with pytest.raises(
        SubmissionRejected, match="step b was refused, and the others were canceled"
    ) as caught:
        Experiment(ws, "e").submit(Pipeline(steps), key="k")
    assert caught.value.hint == no.hint
    (row,) = ws.history.list(children=False)
    run = Run.get(ws, row.id)
    states = {name: child.record.state for name, child in names(run).items()}
    assert states == {"a": RunState.CANCEL_REQUESTED, "b": RunState.FAILED, "c": RunState.CANCELED}
    assert ws.history.by_key("k") is None
    ws.history.update(names(run)["a"].id, lambda r: setattr(r, "state", RunState.CANCELED))
    refresh(ws.history, ws.targets)
    assert (run.status, run.record.reason) == ("Failed", "Rejected")


KILL = """
import importlib, os, signal, sys
where, name, moment, count = sys.argv[1:]
holder = importlib.import_module(where)
owner, _, attribute = name.rpartition(".")
holder = getattr(holder, owner) if owner else holder
original, calls = getattr(holder, attribute), []
def killed(*args, **kwargs):
    calls.append(1)
    if moment == "before" and len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if moment == "after" and len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(holder, attribute, killed)
from hpcrun.cli.main import cli
cli(["submit", "p.yaml", "--key", "k"])
"""

MOMENTS = [
    *((("hpcrun.history.store", "History.create"), moment, count) for moment, count in (
        ("before", 1), ("after", 1), ("after", 2), ("before", 4), ("after", 4),
    )),
    (("hpcrun.engine.pipeline", "make_steps"), "after", 1),
    *((("hpcrun.engine.submit", "carry_out"), moment, count) for moment, count in (
        ("before", 1), ("after", 1), ("before", 2), ("after", 2), ("after", 3),
    )),
    *((("hpcrun.schedulers.local", "LocalScheduler.submit"), moment, count) for moment, count in (
        ("before", 1), ("after", 1), ("before", 3), ("after", 3),
    )),
    (("hpcrun.engine.sending", "jobs_before"), "before", 2),
]  # fmt: skip


@pytest.mark.parametrize(("what", "moment", "count"), MOMENTS)
def test_killed_in_the_middle(
    what: tuple[str, str], moment: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 (fault 3): the same command once more, or any that looks, makes up for what is missing, and no
    step starts twice."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    steps = {
        "one": {"command": STARTS + "echo 1 > outputs/x"},
        "two": {"command": STARTS + "cat $HPCRUN_INPUT_X", "inputs": {"x": "steps.one/outputs/x"}},
        "three": {"command": STARTS, "needs": ["two"]},
    }
    Path("p.yaml").write_text(json.dumps({"experiment": "e", "steps": steps}))
    argv = [sys.executable, "-c", KILL, *what, moment, str(count)]
    done = subprocess.run(argv, env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Workspace.from_config() as ws:
        monkeypatch.setattr("hpcrun.engine.reconcile.LOOK_AGAIN", 0.1)
        if ws.history.by_key("k") is None:
            assert (what[1], moment, count) == ("History.create", "before", 1), "the intent comes first"
            assert ws.history.list() == [] and not (tmp_path / "starts").exists()
            return
        kept = snapshots_in_use(ws.history)
        if moment == "after":
            typed("submit", "p.yaml", "--key", "k")
        until(lambda: not refresh(ws.history, ws.targets).trouble and not ws.history.active(), seconds=60)
        (row,) = ws.history.list(children=False)
        run = Run.get(ws, row.id)
        assert ends(run) == dict.fromkeys(steps, ("Completed", ""))
        assert run.status == "Completed"
        assert kept == {run.get_snapshot_id()}, "what is planned has its code"
        ids = [child.id for child in names(run).values()]
    assert (tmp_path / "starts").read_text().split() == ids


def test_what_is_planned_keeps_its_code(ws: Workspace, src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of several source directories, of which the parent has none for its own."""
    other = source(src.parent / "other", train_py="print('other')")

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hpcrun.engine.pipeline.make_steps", killed)
    steps = {"a": ScriptRunConfig(src, "train.py"), "b": ScriptRunConfig(other, "train.py")}
    with pytest.raises(KeyboardInterrupt):
        Experiment(ws, "e").submit(Pipeline(steps))
    assert len(snapshots_in_use(ws.history)) == 2
    (row,) = ws.history.list()
    run = Run.get(ws, row.id)
    run.wait_for_completion(timeout=PATIENCE)
    assert len({child.get_snapshot_id() for child in run.get_children()}) == 2


def test_a_dry_run(project: Project) -> None:
    out = typed("submit", "pipeline.yaml", "--dry-run")
    assert out.count("#!/bin/bash") == 3 and out.startswith("# ---- step prepare\n")
    steps: list[dict[str, Any]] = document("submit", "pipeline.yaml", "--dry-run")["steps"]
    assert [step["step"] for step in steps] == ["prepare", "train", "evaluate"]
    path = f"{steps[0]['run_dir']}/code/outputs/points.csv"
    assert f"export HPCRUN_INPUT_DATA={path}\n" in steps[1]["script"]
    assert not (project.folder / ".hpcrun").exists()


def test_with_an_environment_that_is_made(ws: Workspace, src: Path) -> None:
    """Once for all steps; each is sent when it is there."""
    environment = Environment("mine", venv={"packages": ["pip"]})  # which every one has
    where = "python -c 'import sys; print(sys.prefix)' > outputs/where"
    steps = {
        "a": ScriptRunConfig(src, command=where, environment=environment),
        "b": ScriptRunConfig(
            src,
            command=f"{where}; cmp outputs/where $HPCRUN_INPUT_A",
            environment=environment,
            inputs={"a": "steps.a/outputs/where"},
        ),
    }
    run = Experiment(ws, "e").submit(Pipeline(steps))
    run.wait_for_completion(timeout=PATIENCE * 3)
    assert ends(run) == dict.fromkeys(steps, ("Completed", ""))
    assert "/environments/" in (names(run)["b"].folder / "outputs" / "where").read_text()
