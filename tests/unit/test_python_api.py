"""The Python API, on this machine: from an experiment to a file in the hand."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import (
    Environment,
    Experiment,
    PyTorchConfiguration,
    Run,
    RunConfiguration,
    ScriptRunConfig,
    Workspace,
)
from hpcrun.errors import ConfigError, NotFoundError, RunFailedError, UsageError, WaitTimeoutError
from tests.engine_help import PATIENCE, ScriptedScheduler, source, until, use, workspace

TRAIN = """
import os, sys
from pathlib import Path
print("arguments", sys.argv[1:])
print("oops", file=sys.stderr)
Path("outputs/deep").mkdir()
Path("outputs/deep/model.bin").write_bytes(bytes(range(256)))
Path("outputs/a file").write_text("x")
Path("logs/own.txt").write_text("a log of its own")
sys.exit(int(os.environ.get("CODE", 0)))
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        monkeypatch.chdir(made.folder)
        yield made


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return source(tmp_path / "src", train_py=TRAIN)


def submit(ws: Workspace, src: Path, *arguments: str, **config: Any) -> Run:
    return Experiment(ws, "cifar").submit(ScriptRunConfig(src, "train.py", [*arguments], **config))


@pytest.fixture
def done(ws: Workspace, src: Path) -> Run:
    run = submit(ws, src, "--rate", "0.1")
    run.wait_for_completion(timeout=PATIENCE)
    return run


def test_show_output_prints_what_comes(ws: Workspace, src: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = submit(ws, src, "it's")
    details = run.wait_for_completion(show_output=True)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"RunId: {run.id}"
    assert [line for line in said if not line.startswith("[")][1:] == ["""arguments ["it's"]""", "oops"]
    assert said[-1] == "[Completed]" and said.count("[Completed]") == 1
    assert details == run.get_details()


def test_the_output_of_ranks_says_whose_it_is(ws: Workspace, tmp_path: Path) -> None:
    folder = source(tmp_path / "ranks", train_sh='printf "no end of line $RANK"')
    config = ScriptRunConfig(folder, "train.sh", distributed_job_config=PyTorchConfiguration("gloo", 2, 1))
    run = Experiment(ws, "ranks").submit(config)
    stream = io.StringIO()
    run.wait_for_completion(show_output=True, stream=stream, timeout=PATIENCE)
    for rank in (0, 1):
        assert f"\n[rank {rank}] no end of line {rank}\n" in stream.getvalue()


def test_each_line_is_printed_once_and_whole(ws: Workspace, tmp_path: Path) -> None:
    text = (
        "for i in $(seq 200); do printf 'li'; printf 'ne %s\\n' $i; [ $((i % 50)) -gt 0 ] || sleep 0.05; done"
    )
    run = Experiment(ws, "lines").submit(ScriptRunConfig(source(tmp_path / "s", x_txt=""), command=text))
    stream = io.StringIO()
    run.wait_for_completion(show_output=True, stream=stream, timeout=PATIENCE)
    assert re.findall(r"^line (\d+)$", stream.getvalue(), re.MULTILINE) == [str(i) for i in range(1, 201)]


def test_details(done: Run, ws: Workspace) -> None:
    details = done.get_details()
    assert details["runId"] == done.id
    assert (details["target"], details["status"], details["exitCode"]) == ("local", "Completed", 0)
    assert details["startTimeUtc"] <= details["endTimeUtc"]
    assert details["error"] is None and details["warnings"] == []
    assert details["runDir"] == str(ws.folder / ".hpcrun" / "runs" / done.id)
    assert sorted(details["logFiles"]) == [
        "logs/own.txt",
        "system_logs/attempts.jsonl",
        "system_logs/job.txt",
        "user_logs/std_log.txt",
    ]
    assert Path(details["logFiles"]["logs/own.txt"]).read_text() == "a log of its own"
    assert [attempt["number"] for attempt in details["attempts"]] == [1]


def test_a_run_that_fails(ws: Workspace, src: Path) -> None:
    run = submit(ws, src, environment_variables={"CODE": "3"})
    with pytest.raises(
        RunFailedError, match=r"failed \(BadExit\): the payload ended with exit code 3"
    ) as caught:
        run.wait_for_completion(timeout=PATIENCE)
    assert f"hpcrun logs {run.id}" in str(caught.value)
    details = run.wait_for_completion(raise_on_error=False)
    error = details["error"]
    assert (error["code"], error["message"]) == ("BadExit", "the payload ended with exit code 3")
    assert error["explanation"]["cause"] == "BadExit"
    assert "exit code 3" in error["explanation"]["words"]
    assert "outputs/a file" in run.get_file_names(), "what it left is kept all the same"


def test_file_names(done: Run) -> None:
    assert done.get_file_names() == [
        "outputs/a file",
        "outputs/deep/model.bin",
        "logs/own.txt",
        "user_logs/std_log.txt",
        "system_logs/attempts.jsonl",
        "system_logs/job.txt",
    ]


def test_download(done: Run, ws: Workspace, tmp_path: Path) -> None:
    name, content = "outputs/deep/model.bin", bytes(range(256))
    assert done.download_file(name) == ws.folder / "model.bin"
    assert (ws.folder / "model.bin").read_bytes() == content
    assert done.download_file(name, tmp_path / "new" / "parents" / "m") == tmp_path / "new" / "parents" / "m"
    assert done.download_file(name, tmp_path / "new") == tmp_path / "new" / "model.bin"
    assert (
        done.download_file(name, f"{tmp_path}/folder to come/") == tmp_path / "folder to come" / "model.bin"
    )
    done.download_file("outputs/a file", tmp_path / "new" / "model.bin")
    assert (tmp_path / "new" / "model.bin").read_text() == "x", "an older copy is replaced"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.bin", "parents"]


@pytest.mark.parametrize(
    "name",
    [
        "outputs/model",
        "model.bin",
        "",
        ".",
        "outputs",
        "outputs/../run.json",
        "../../history.db",
        "/etc/passwd",
    ],
)
def test_a_name_that_is_not_there(name: str, done: Run, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no file") as caught:
        done.download_file(name, tmp_path / "copy")
    assert "outputs/deep/model.bin" in str(caught.value), "those there are are named"
    assert not (tmp_path / "copy").exists()


def test_a_link_that_leads_out_is_no_file_of_the_run(done: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    outputs = done.folder / "outputs"
    (outputs / "out").symlink_to(tmp_path / "secret")
    (outputs / "within").symlink_to("a file")
    (outputs / "folder").symlink_to(tmp_path)
    os.mkfifo(outputs / "pipe")
    assert [name for name in done.get_file_names() if name.startswith("outputs")] == [
        "outputs/a file",
        "outputs/deep/model.bin",
        "outputs/within",
    ]
    with pytest.raises(NotFoundError):
        done.download_file("outputs/out")


def test_cancel(ws: Workspace, tmp_path: Path) -> None:
    run = Experiment(ws, "long").submit(
        ScriptRunConfig(source(tmp_path / "s", x_txt=""), command="sleep 1000")
    )
    with pytest.raises(WaitTimeoutError):
        run.wait_for_completion(timeout=0)
    run.cancel()
    details = run.wait_for_completion(timeout=PATIENCE)
    assert (details["status"], details["error"]) == ("Canceled", None)
    run.cancel()
    assert run.get_status() == "Canceled"


def test_get(done: Run, ws: Workspace) -> None:
    for name in (done.id, done.id[-8:], "@-1", "@cifar:-1", "@cifar:1"):
        found = Run.get(ws, name)
        assert (found.id, found.experiment.name, found.number) == (done.id, "cifar", 1)
    with pytest.raises(NotFoundError):
        Run.get(ws, "cifar_20200101-000000_aaaaaaaa")
    with pytest.raises((NotFoundError, UsageError)):
        Run.get(ws, "")


def test_names_tags_and_properties(ws: Workspace, src: Path) -> None:
    use(ws, ScriptedScheduler())
    config = ScriptRunConfig(src, "train.py", tags={"a": "1", "b": "2"}, display_name="from the config")
    run = Experiment(ws, "cifar").submit(config, tags={"b": "3"})
    assert (run.display_name, run.tags, run.get_tags()) == ("from the config", {"a": "1", "b": "3"}, run.tags)
    assert run.get_properties() == run.properties
    assert Experiment(ws, "cifar").submit(config, display_name="nearer").display_name == "nearer"
    assert submit(ws, src).display_name == Run.get(ws, "@-1").id
    assert repr(run) == f"Run('cifar', {run.id!r}, Queued)"


def test_experiments(ws: Workspace, src: Path) -> None:
    use(ws, ScriptedScheduler(["1"]))
    ids = [submit(ws, src).id for _ in range(3)]
    Experiment(ws, "other").submit(ScriptRunConfig(src, "train.py"))
    assert [run.id for run in Experiment(ws, "cifar").get_runs()] == ids[::-1]
    assert [run.number for run in Experiment(ws, "cifar").get_runs()] == [3, 2, 1]
    assert [experiment.name for experiment in Experiment.list(ws)] == ["other", "cifar"]
    assert len(ws.runs()) == 4 and len(ws.runs(limit=2)) == 2
    assert list(Experiment(ws, "none-yet").get_runs()) == []


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "é", "x" * 256, "../x"])
def test_a_name_that_no_experiment_can_have(name: str, ws: Workspace) -> None:
    with pytest.raises(ConfigError, match="not a name for an experiment"):
        Experiment(ws, name)


def test_a_run_id_of_ones_own(ws: Workspace, src: Path) -> None:
    use(ws, ScriptedScheduler())
    run_id = "cifar_20260131-120000_abcdefgh"
    config = ScriptRunConfig(src, "train.py")
    assert Experiment(ws, "cifar").submit(config, run_id=run_id).id == run_id
    with pytest.raises(ConfigError, match="not a run id"):
        Experiment(ws, "cifar").submit(config, run_id="../x")


def test_submitting_leaves_the_configuration_as_it_was(ws: Workspace, src: Path) -> None:
    use(ws, ScriptedScheduler())
    config = ScriptRunConfig(src, "train.py", environment=Environment("e"))
    before = config.model_copy(deep=True)
    Experiment(ws, "cifar").submit(config)
    assert config == before


def test_resume_from_an_earlier_run(done: Run, ws: Workspace, tmp_path: Path) -> None:
    folder = source(tmp_path / "next", x_txt="")
    text = 'cat "$HPCRUN_RESUME_FROM/a file"'
    run = Experiment(ws, "next").submit(ScriptRunConfig(folder, command=text, resume_from=done.id))
    run.wait_for_completion(timeout=PATIENCE)
    assert (run.folder / "user_logs" / "std_log.txt").read_text() == "x"


def test_run_config_is_another_name_for_the_same(src: Path) -> None:
    config = ScriptRunConfig(src, "train.py")
    view = config.run_config
    assert isinstance(view, RunConfiguration) and view.target == "local"
    view.target = "snellius:gpu"
    view.environment_variables = {"A": "1"}
    assert (config.compute_target, config.environment_variables) == ("snellius:gpu", {"A": "1"})
    with pytest.raises(AttributeError, match="it has arguments, command, environment"):
        view.node_count = 2


def test_environments(ws: Workspace) -> None:
    minimal = Environment.get(workspace=ws, name="AzureML-Minimal")
    assert minimal.python.user_managed_dependencies
    minimal.python.interpreter_path = "/somewhere/else"
    assert Environment.get(ws, "AzureML-Minimal").python.interpreter_path is None, "each its own"
    with pytest.raises(NotFoundError, match="AzureML-Minimal"):
        Environment.get(ws, "AzureML-Maximal")


def test_from_config_finds_the_workspace_upward(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = ws.folder / "a" / "b"
    deep.mkdir(parents=True)
    with Workspace.from_config(deep) as found:
        assert found.folder == ws.folder and found.name == "ws"
    monkeypatch.chdir(deep)
    with Workspace.open() as found:
        assert found.folder == ws.folder
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(elsewhere))
    with pytest.raises(NotFoundError, match="no workspace"):
        Workspace.open()
    with Workspace.from_config() as made:
        assert made.folder == elsewhere, "made where there is none"
    with Workspace.open() as found:
        assert found.folder == elsewhere


def test_paths_of_any_kind(weird_tmp_path: Path, newline_tmp_path: Path) -> None:
    for folder in (weird_tmp_path, newline_tmp_path):
        with workspace(folder / "ws") as ws:
            run = submit(ws, source(folder / "src", train_py=TRAIN))
            assert run.wait_for_completion(timeout=PATIENCE)["status"] == "Completed"
            assert run.download_file("outputs/a file", folder / "copy").read_text() == "x"


def test_all_while_a_run_is_not_yet_at_its_end(ws: Workspace, tmp_path: Path) -> None:
    text = "echo x >outputs/early; echo said; sleep 1000"
    run = Experiment(ws, "long").submit(ScriptRunConfig(source(tmp_path / "s", x_txt=""), command=text))
    until(lambda: "outputs/early" in run.get_file_names())
    assert run.download_file("outputs/early", tmp_path / "early").read_text() == "x\n"
    until(lambda: run.get_status() == "Running")
    assert run.get_details()["endTimeUtc"] is None
    run.cancel()
    run.wait_for_completion(timeout=PATIENCE)


def test_a_closed_workspace_lets_go_of_connections(ws: Workspace) -> None:
    """A connection by fabric would else last as long as a notebook does."""
    sites = ws.folder / "site_configs"
    sites.mkdir()
    (sites / "far.yaml").write_text("connection: {type: fabric, host: far.example.org}\n")
    closed: list[str] = []
    with Workspace(ws.folder) as opened:
        target = opened.targets.get("far")
        assert target.remote is not None
        target.remote.close = lambda: closed.append("far")  # type: ignore[method-assign]
        assert not closed
    assert closed == ["far"]
