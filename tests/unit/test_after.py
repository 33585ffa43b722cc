"""Runs that come after others, and find their files: what is refused, what waits, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Environment, Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.config.load import load_run_config
from hpcrun.engine.refresh import refresh
from hpcrun.engine.sending import held
from hpcrun.errors import ConfigError, SubmissionAmbiguous
from hpcrun.models.earlier import Input, input_of, when_and_whom
from hpcrun.render import render_script
from hpcrun.states import RunState
from tests.cli_help import Project, document, make_project, refused, typed
from tests.engine_help import (
    PATIENCE,
    ScriptedScheduler,
    job,
    knows,
    slurm_site,
    source,
    until,
    use,
    workspace,
)

pytestmark = pytest.mark.slow

UNTIL_TOLD = "until [ -e go ]; do sleep 0.02; done; echo made > outputs/thing"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    yield from make_project(tmp_path / "project")


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as ws:
        yield ws


def run(ws: Workspace, command: str, **more: Any) -> Run:
    folder = source(ws.folder.parent / "src", train_py="print(1)")
    return Experiment(ws, "e").submit(ScriptRunConfig(folder, command=command, **more))


def tell(run: Run) -> None:
    (Path(run.record.run_dir) / "code" / "go").touch()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a/outputs/x", Input(run="a", name="outputs/x")),
        ("@cifar:-1/logs", Input(run="@cifar:-1", name="logs")),
        ("steps.train/outputs//a/./b", Input(step="train", name="outputs/a/b")),
        ("/data", Input(path="/data")),
        ("~/data", Input(path="~/data")),
    ],
)
def test_what_an_input_means(text: str, meant: Input) -> None:
    assert input_of(text) == meant


@pytest.mark.parametrize("text", ["", "a", "a/code/x", "a/outputs/../../x", "a/outputs/..", "x/y"])
def test_what_can_be_no_input(text: str) -> None:
    with pytest.raises(ValueError, match="expected RUN/outputs/FILE"):
        input_of(text)


def test_how_a_run_is_to_end() -> None:
    names = ["a", "any:a", "notok:@cifar:-1", "ok:any:a", "@cifar:failed"]
    assert [when_and_whom(name) for name in names] == [
        ("ok", "a"), ("any", "a"), ("notok", "@cifar:-1"), ("ok", "any:a"), ("ok", "@cifar:failed"),
    ]  # fmt: skip


def test_mistakes_have_their_places(project: Project) -> None:
    text = "command: 'true'\nafter: ['any:', 5]\ninputs:\n  a-b: /x\n  c: d/e\n"
    (project.folder / "run.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_run_config(Path("run.yaml"))
    places = [problem.where for problem in caught.value.problems]
    assert places == ["run.yaml:2:9", "run.yaml:2:17", "run.yaml:4:3", "run.yaml:5:6"]
    with pytest.raises(ConfigError, match="HPCRUN_INPUT_X"):
        (project.folder / "run.yaml").write_text("command: x\ninputs: {x: /a, X: /b}\n")
        load_run_config(Path("run.yaml"))
    (project.folder / "run.yaml").write_text("command: x\nneeds: [y]\ninputs: {x: steps.y/outputs}\n")
    told = refused("submit", "run.yaml", code=3)
    assert "run.yaml:2:8: needs: needs is for the steps" in told
    assert "run.yaml:3:13: inputs.x: this run is no step" in told
    assert not (project.folder / ".hpcrun").exists()


def test_a_run_that_is_not_there(project: Project) -> None:
    name = project.config("true", after=["nosuch"])
    assert "no workspace" in refused("submit", name, code=4)
    typed("submit", project.config("true", "other.yaml"), "--wait", "--name", "there")
    told = refused("submit", name, code=3)
    assert "run.yaml:1:52: after[0]: no run 'nosuch'" in told
    assert "command line: after[0]: no run 'their'" in refused("submit", name, "--after", "their", code=3)
    assert len(project.runs) == 1


def test_it_waits_and_has_the_files(ws: Workspace) -> None:
    """The state while it waits, what is said of it, and the files where they were written."""
    first = run(ws, UNTIL_TOLD)
    second = run(ws, "cat $HPCRUN_INPUT_THING", inputs={"thing": f"{first.id[-8:]}/outputs/thing"})
    assert second.record.after == [{"run": first.id, "when": "ok"}]
    until(lambda: (second.get_status(), second.record.reason) == ("Queued", "Dependency"))
    told = second.explain()
    assert told["cause"] == "Waiting" and f"{first.id} to complete" in told["words"]
    tell(first)
    second.wait_for_completion(timeout=PATIENCE)
    assert (second.folder / "user_logs" / "std_log.txt").read_text() == "made\n"
    again = second.rerun()
    again.wait_for_completion(timeout=PATIENCE)
    assert again.record.after == [], "what was waited for then is not waited for again"
    assert (again.folder / "user_logs" / "std_log.txt").read_text() == "made\n"


def test_a_wait_in_vain(ws: Workspace) -> None:
    first = run(ws, "until [ -e go ]; do sleep 0.02; done; exit 3")
    second = run(ws, "true", after=[first])
    third = run(ws, "true", after=[second.id])
    always = run(ws, "true", after=[f"any:{third.id}", f"notok:{first.id}"])
    tell(first)
    always.wait_for_completion(timeout=PATIENCE)
    for one, other in ((second, first), (third, second)):
        assert (one.get_status(), one.record.reason, one.record.started) == ("Canceled", "Dependency", None)
        assert f"wait for {other.id} to complete" in one.record.message
        told = one.explain()
        assert told["cause"] == "Dependency" and other.id in told["words"]
        assert f"hpcrun explain {other.id[-8:]}" in told["next"][0]


def test_what_has_ended_is_decided_at_once(ws: Workspace) -> None:
    good, bad = run(ws, "true"), run(ws, "exit 3")
    for each in (good, bad):
        each.wait_for_completion(timeout=PATIENCE, raise_on_error=False)
    fine = run(ws, "true", after=[good.id, f"any:{bad.id}", f"notok:{bad.id}"])
    assert fine.record.submission["waits"] == []
    before = len(ws.runs())
    for words in (bad.id, f"notok:{good.id}"):
        with pytest.raises(ConfigError, match="Nothing was submitted") as caught:
            run(ws, "true", after=[words])
        assert caught.value.problems[0].path == "after[0]"
    with pytest.raises(ConfigError, match="to complete, and that one is Failed"):
        run(ws, "true", inputs={"x": f"{bad.id}/outputs"})
    assert len(ws.runs()) == before
    run(ws, "ls $HPCRUN_INPUT_X", inputs={"x": f"{bad.id}/outputs"}, after=[f"any:{bad.id}"])


def test_a_run_elsewhere_is_waited_for_here(ws: Workspace) -> None:
    """No scheduler knows of both: the run is sent by whoever looks at it once the other one has ended. The
    other site is this machine under another name."""
    folder = ws.folder / "site_configs"
    folder.mkdir()
    (folder / "other.yaml").write_text("scheduler: {type: local}\n")
    first = run(ws, UNTIL_TOLD)
    second = run(ws, "true", after=[first.id], compute_target="other")
    vain = run(ws, "true", after=[f"notok:{first.id}"], compute_target="other")
    for each in (second, vain):
        assert (each.get_status(), each.record.reason, each.record.job_id) == (
            "NotStarted",
            "Dependency",
            None,
        )
    told = second.explain()
    assert told["cause"] == "Waiting" and f"{first.id} to complete" in told["words"]
    tell(first)
    second.wait_for_completion(timeout=PATIENCE)
    assert (second.get_status(), second.record.reason) == ("Completed", "")
    vain.wait_for_completion(timeout=PATIENCE)
    assert (vain.get_status(), vain.record.reason) == ("Canceled", "Dependency")
    with pytest.raises(ConfigError, match="the run is to wait for"):
        run(ws, "true", after=[f"notok:{first.id}"], compute_target="other")


def test_a_run_without_a_job_is_not_waited_for(ws: Workspace) -> None:
    """Its submission goes on, or nobody knows how it went. It is taken further first, where that can be."""
    first = run(ws, "true")
    first.wait_for_completion(timeout=PATIENCE)
    scheduler = use(ws, ScriptedScheduler([SubmissionAmbiguous("lost")], [knows("7")]))
    other = run(ws, "true")
    assert other.record.job_id == "7"
    ws.history.update(other.id, lambda r: setattr(r, "state", RunState.CANCEL_REQUESTED))
    unsent = ws.history.update(other.id, lambda r: setattr(r, "job_id", None))
    with held(ws.history.paths.run(unsent.id)), pytest.raises(ConfigError, match="has no job yet"):
        run(ws, "true", after=[other.id])
    assert len(scheduler.submitted) == 1
    ws.history.update(other.id, lambda r: setattr(r, "state", RunState.CANCELED))


def test_a_lost_answer_changes_nothing_of_what_is_waited_for(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try has the job wait for the same run: the record keeps it."""
    monkeypatch.setattr("hpcrun.engine.reconcile.LOOK_AGAIN", 0.0)
    lost = SubmissionAmbiguous("lost")
    scheduler = use(ws, ScriptedScheduler(["1", lost, "2"], [knows("1")]))
    first = run(ws, "true")
    # The answers are for any job: it is the first one's, and then nobody knows the second.
    nobody = knows("1")
    nobody.facts.clear()
    scheduler.queries = [knows("1"), knows("1"), nobody, nobody, knows("1"), nobody]
    second = run(ws, "true", after=[first.id])
    assert second.record.job_id == "2"
    wanted = [f"afterok:{first.record.run_dir}"]
    assert [list(request.after) for request in scheduler.submitted] == [[], wanted, wanted]
    assert len({request.token for request in scheduler.submitted[1:]}) == 2
    for each in (first, second):
        ws.history.update(each.id, lambda r: setattr(r, "state", RunState.CANCELED))


def test_an_input_that_is_not_there(ws: Workspace) -> None:
    """Said before the script begins, and where it was looked for."""
    first = run(ws, "true")
    second = run(ws, "echo begun", inputs={"thing": f"{first.id}/outputs/thing"})
    second.wait_for_completion(timeout=PATIENCE, raise_on_error=False)
    record = second.record
    assert (record.state, record.reason, record.exit_code) == (RunState.FAILED, "LaunchFailed", 104)
    assert (
        record.message
        == f"the input HPCRUN_INPUT_THING is not there: {first.record.run_dir}/code/outputs/thing"
    )
    assert not (second.folder / "user_logs" / "std_log.txt").exists()


def test_paths_on_the_target(ws: Workspace, tmp_path: Path) -> None:
    """Any text that can be a path comes through as it is."""
    odd = tmp_path / "it's $HOME `here`"
    odd.write_text("odd\n")
    done = run(ws, 'cat "$HPCRUN_INPUT_ODD"', inputs={"odd": str(odd)})
    done.wait_for_completion(timeout=PATIENCE)
    assert (done.folder / "user_logs" / "std_log.txt").read_text() == "odd\n"


def test_shown(project: Project) -> None:
    first = document("submit", project.config(project.until_let_go))
    second = document(
        "submit", project.config("true", "b.yaml"), "--after", "@-1", "--after", f"any:{first['id']}"
    )
    assert second["after"] == [{"run": first["id"], "when": "ok"}, {"run": first["id"], "when": "any"}]
    until(lambda: document("show", second["id"])["reason"] == "Dependency")
    assert f"before      {second['id']}, which waits for it" in typed("show", first["id"])
    assert f"after       {first['id']}, Running; it was to complete" in typed("show", second["id"])
    assert json.loads(typed("explain", second["id"], "--json"))["cause"] == "Waiting"
    project.let_go()
    typed("wait", second["id"])


def test_the_run_before_it_is_looked_at_too(ws: Workspace) -> None:
    """Whoever asks about one run alone hears how that stands which it waits for."""
    first = run(ws, UNTIL_TOLD)
    second = run(ws, "true", after=[first])
    tell(first)
    until(lambda: (first.folder / "local.json").read_text().find('"ended"') > 0)
    refresh(ws.history, ws.targets, [second.id])
    assert first.record.state is RunState.COMPLETED


def test_a_container_sees_them(tmp_path: Path) -> None:
    """At the same paths; Apptainer cannot bind all that can be a path."""
    config = ScriptRunConfig(".", command="x", environment=Environment("e", apptainer={"image": "/i.sif"}))
    text = render_script(
        job(tmp_path, config, slurm_site(), inputs={"data": "/their $data"}, resume_path="/old")
    )
    assert "--bind /old --bind '/their $data'" in text
    assert "export HPCRUN_INPUT_DATA='/their $data'" in text
    with pytest.raises(ConfigError, match="comma or colon"):
        render_script(job(tmp_path, config, slurm_site(), inputs={"data": "/a,b"}))
