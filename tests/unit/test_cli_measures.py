"""``hpcrun ls``, ``show`` and the words for runs, by metrics and parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Workspace
from hpcrun.errors import NotFoundError, UsageError
from hpcrun.states import RunState
from tests.cli_help import Project, document, make_project, on_terminal, refused, typed
from tests.unit.test_cli_completion import offered
from tests.unit.test_history_store import make
from tests.unit.test_metrics_where import measured

RUNS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"acc": 0.8, "loss": [0.9, 0.123456789]}, {"lr": 0.5, "amp": True, "both": 1}, {"display_name": "zero"}),
    ({"acc": [0.99, 0.9], "loss": 0.5, "both": 7}, {"lr": 1e-4, "opt": "ad\x1bam"}, {"display_name": "one"}),
    ({"loss": float("nan")}, {"lr": 0.1}, {"display_name": "two", "experiment": "other"}),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    with Workspace(tmp_path) as ws:
        for metrics, parameters, more in RUNS:
            put(ws, metrics, parameters=parameters, **more)
    yield from make_project(tmp_path)


def put(ws: Workspace, metrics: dict[str, Any], **more: Any) -> str:
    run, _ = ws.history.create(make(target="local", scheduler="local", **more))
    measured(ws.history, run.id, metrics)
    ws.history.update(run.id, lambda record: setattr(record, "state", RunState.CANCELED))
    return run.id


def names(*args: str) -> list[str]:
    return [run["display_name"] for run in document("ls", *args)["runs"]]


def test_ls_sorts(project: Project) -> None:
    assert names("--sort", "metric:acc") == ["one", "zero"]
    assert names("--sort", "-metric:acc") == ["zero", "one"]
    assert names("--sort", "max:loss") == ["zero", "one"]
    assert names("--sort", "param:lr") == ["zero", "two", "one"]
    assert names("--sort", "age") == ["two", "one", "zero"]


def test_ls_asks(project: Project) -> None:
    assert names("--where", "acc >= 0.8 and lr < 0.1") == ["one"]
    assert names("--where", "not amp", "--sort", "metric:loss") == ["one"]
    assert names("--where", "max:acc > 0.95 or experiment = 'other'") == ["two", "one"]
    assert "no runs like that" in refused("ls", "--where", "acc > 1", code=0)


def test_ls_shows_what_was_asked_for(project: Project) -> None:
    lines = [line.split() for line in typed("ls", "--sort", "-metric:acc", "--where", "lr < 1").splitlines()]
    assert [line[-2:] for line in lines] == [["acc", "lr"], ["0.8", "0.5"], ["0.9", "0.0001"]]
    shown = typed("ls", "--columns", "name,metric:loss,max:acc,param:opt,param:amp")
    assert [line.split() for line in shown.splitlines()] == [
        ["NAME", "loss", "max:acc", "opt", "amp"],
        ["two", "NaN", "-", "-", "-"],
        ["one", "0.5", "0.99", "ad\N{REPLACEMENT CHARACTER}am", "-"],
        ["zero", "0.123457", "0.8", "-", "true"],
    ]
    both = typed("ls", "--columns", "name,metric:both,param:both").splitlines()
    assert both[0].split() == ["NAME", "metric:both", "param:both"]
    assert "acc" in on_terminal("ls", "--sort", "metric:acc", columns=40)


def test_ls_prints_documents(project: Project) -> None:
    found = document("ls", "--where", "lr < 1 and loss is not none", "--sort", "max:acc")
    assert [(run["metrics"], run["parameters"]) for run in found["runs"]] == [
        ({"max:acc": 0.99, "loss": 0.5}, {"lr": 1e-4}),
        ({"max:acc": 0.8, "loss": 0.123456789}, {"lr": 0.5}),
    ]
    assert "metrics" not in document("ls")["runs"][0]
    assert document("ls", "--columns", "metric:loss")["runs"][0]["metrics"] == {"loss": "NaN"}


def test_show_has_all_of_them(project: Project) -> None:
    found = document("show", "zero")
    assert found["metrics"] == {"acc": 0.8, "loss": 0.123456789}
    assert found["parameters"] == {"lr": 0.5, "amp": True, "both": 1}
    shown = typed("show", "zero")
    assert "parameters  amp=true both=1 lr=0.5\n" in shown
    assert shown.count("metrics ") == 1
    assert "metrics     acc   0.8\n            loss  0.123457\n" in shown
    with Workspace.open(Path.cwd()) as ws:
        run_id = put(ws, {f"m{i:02d}": True for i in range(25)})
    shown = typed("show", run_id)
    assert "m19  true\n            … and 5 more: hpcrun metrics " in shown
    assert "m20" not in shown
    assert "not all are in the index" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "ac > 1"], "did you mean acc?"),
        (["--where", "acc >"], "^"),
        (["--where", "both = 1"], "write metric.both or param.both"),
        (["--sort", "metric:los"], "did you mean loss?"),
        (["--sort", "colour"], "metric:NAME"),
        (["--columns", "name,colour:x"], "param:NAME"),
    ],
)
def test_what_cannot_be_asked(project: Project, words: list[str], said: str) -> None:
    assert said in refused("ls", *words, code=2)


def resolved(ref: str) -> str:
    with Workspace.open(Path.cwd()) as ws:
        return str(ws.history.get(ws.history.resolve(ref)).display_name)


def test_the_best_run_by_a_metric(project: Project) -> None:
    assert resolved("@highest:acc") == "one"
    assert resolved("@lowest:acc") == "zero"
    assert resolved("@Lowest:loss") == "zero"
    assert resolved("@cifar:highest:min:acc") == "one"
    assert resolved("@cifar:highest:max:loss") == "zero"
    for ref, error, words in [
        ("@highest", UsageError, "the highest of which metric"),
        ("@cifar:lowest", UsageError, "the lowest of which metric"),
        ("@best", UsageError, "there is no sweep"),
        ("@cifar:best:acc", UsageError, "whether a high acc is good"),
        ("@highest:los", UsageError, "no run has a metric called 'los'"),
        ("@other:highest:loss", NotFoundError, "none has a number"),
        ("@nobody:highest:loss", NotFoundError, "no experiment 'nobody'"),
    ]:
        with pytest.raises(error, match=words):
            resolved(ref)


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
@pytest.mark.parametrize("keys", [("metric", "goal"), ("primary_metric_name", "primary_metric_goal")])
def test_the_best_trial_of_a_sweep(project: Project, goal: str, keys: tuple[str, str]) -> None:
    with Workspace.open(Path.cwd()) as ws:
        sweep = put(ws, {}, type="sweep", config={"sweep": dict(zip(keys, ("acc", goal), strict=True))})
        for name, values in {"low": [0.1, 0.5], "mid": [0.3, 0.3], "high": [0.2, 0.6, 0.3]}.items():
            put(ws, {"acc": values}, parent=sweep, display_name=name)
    best = "high" if goal == "maximize" else "low"
    assert resolved("@best") == resolved("@cifar:best") == resolved("@CIFAR:best".lower()) == best
    assert resolved("@best:acc") == ("one" if goal == "maximize" else "low")  # of all runs there are
    with pytest.raises(UsageError, match="there is no sweep"):
        resolved("@other:best")
    with Workspace.open(Path.cwd()) as ws:
        newer = put(ws, {}, type="sweep", config={"sweep": dict(zip(keys, ("acc", goal), strict=True))})
    with pytest.raises(NotFoundError, match=f"none of the newest sweep, {newer}, has a number") as refusal:
        resolved("@best")
    assert "hpcrun sweep best SWEEP" in str(refusal.value)


def test_an_experiment_whose_name_is_such_a_word(project: Project) -> None:
    with Workspace.open(Path.cwd()) as ws:
        put(ws, {"last": 5}, experiment="best", display_name="of best")
    assert resolved("@best:last") == "of best"
    assert resolved("@best:1") == "of best"
    assert resolved("@best:highest:last") == "of best"


def test_what_a_command_is_told(project: Project) -> None:
    told = json.loads(typed("run", "--wait", "--json", "--", "echo", "--lr", "0.1", "--amp"))
    assert told["parameters"] == {"lr": 0.1, "amp": True}
    config = project.config("echo --lr 0.1")  # bash's own words
    assert document("submit", config, "--wait")["parameters"] == {}


def test_completion(project: Project) -> None:
    with Workspace.open(Path.cwd()) as ws:
        put(ws, {"a;$(id)": 1, "a b": 1, "acc/top-1": 1})
    assert offered("hpcrun ls --sort me") == ["metric:"]
    assert offered("hpcrun ls --sort metric:") == [
        "metric:acc", "metric:acc/top-1", "metric:both", "metric:loss"
    ]  # fmt: skip
    assert offered("hpcrun ls --sort param:a") == ["param:amp"]
    assert offered("hpcrun show @hi") == ["@highest:"]
    assert offered("hpcrun show @cifar:low") == ["@cifar:lowest:"]
    assert offered("hpcrun show @cifar:lowest:l") == ["@cifar:lowest:loss"]
    assert offered("hpcrun show @highest:a") == ["@highest:acc", "@highest:acc/top-1"]
    assert offered("hpcrun show @be") == ["@best"]
