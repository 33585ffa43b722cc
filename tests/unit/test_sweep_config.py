"""Sweeps in files: the same both ways, every mistake with its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.config import reference
from hpcrun.config.descriptions_sweep import EXAMPLES_SWEEP
from hpcrun.config.schema import main, sweep_schema, text_of
from hpcrun.config.sweep import dump_sweep, is_sweep, load_sweep, read_sweep, save_sweep
from hpcrun.config.validate import plain
from hpcrun.config.yamltree import read_file
from hpcrun.errors import ConfigError, NotFoundError
from hpcrun.hyperdrive import (
    AshaPolicy,
    BanditPolicy,
    BayesianParameterSampling,
    GridParameterSampling,
    HyperDriveConfig,
    MedianStoppingPolicy,
    NoTerminationPolicy,
    Option,
    PrimaryMetricGoal,
    RandomParameterSampling,
    TruncationSelectionPolicy,
    choice,
    loguniform,
    quniform,
    randint,
    uniform,
)
from hpcrun.models.expressions import Expression
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.sweep import SweepConfig
from tests.docs_help import DOCS, ROOT
from tests.sweep_help import sweep

CORPUS = Path(__file__).parent / "config_corpus" / "sweeps"
WRITE = os.environ.get("HPCRUN_GOLDEN") == "write"
CASES = sorted(path.stem for path in CORPUS.glob("*.yaml"))
SCHEMA = jsonschema.Draft202012Validator(sweep_schema())

WHOLE = """\
script: train.py
arguments: --epochs 3
resources: {time: 1h}
sweep:
  space:
    --lr: {loguniform: [-7, -2]}
    batch: {choice: [32, 64]}
    optimizer:
      choice:
        - sgd
        - value: adam
          space: {beta1: {uniform: [0.8, 0.99]}}
  sampling: sobol
  seed: 7
  metric: val_acc
  goal: maximize
  max_total_runs: 20
  max_concurrent_runs: 5
  max_duration_minutes: 60
  policy: {bandit: {slack_factor: 0.1, evaluation_interval: 1, delay_evaluation: 5}}
  resume_from: [exp_20260101-000000_aaaaaaaa]
  pass_as: file
"""


def written(tmp_path: Path, text: str, name: str = "sweep.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", CASES)
def test_a_bad_sweep_is_refused_with_these_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    with pytest.raises(ConfigError) as caught:
        load_sweep(Path(f"{name}.yaml"))
    said, expected = str(caught.value).replace(str(CORPUS), "CORPUS") + "\n", Path(f"{name}.expected.txt")
    if WRITE:
        expected.write_text(said)
    assert said == expected.read_text()
    for problem in caught.value.problems:
        file, line, column = problem.where.rsplit(":", 2)
        assert Path(file).is_file() and int(line) >= 1 and int(column) >= 1


def test_a_file_is_what_python_says(tmp_path: Path) -> None:
    config = load_sweep(written(tmp_path, WHOLE))
    assert config == HyperDriveConfig(
        run_config=ScriptRunConfig(tmp_path, "train.py", ["--epochs", "3"], resources={"time": "1h"}),
        hyperparameter_sampling=RandomParameterSampling(
            {
                "lr": loguniform(-7, -2),
                "--batch": choice(32, 64),
                "optimizer": choice("sgd", Option("adam", {"beta1": uniform(0.8, 0.99)})),
            },
            seed=7,
            rule="sobol",
        ),
        policy=BanditPolicy(slack_factor=0.1, evaluation_interval=1, delay_evaluation=5),
        primary_metric_name="val_acc",
        primary_metric_goal=PrimaryMetricGoal.MAXIMIZE,
        max_total_runs=20,
        max_concurrent_runs=5,
        max_duration_minutes=60,
        resume_from="exp_20260101-000000_aaaaaaaa",
        pass_as="file",
    )
    assert is_sweep(tmp_path / "sweep.yaml") and config.seed == 7 and next(iter(config.space)) == "lr"


values = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8).filter(lambda text: "\0" not in text),
)
names = st.from_regex(r"\A-?[a-z_][a-z0-9_.-]{0,5}\Z")
leaves = st.one_of(
    st.tuples(st.integers(-5, 0), st.floats(0.5, 5)).map(lambda pair: uniform(*pair)),
    st.tuples(st.integers(-5, 0), st.integers(1, 5), st.sampled_from([1, 0.5, 0.1])).map(
        lambda three: quniform(*three)
    ),
    st.integers(1, 99).map(randint),
    st.lists(values, min_size=1, max_size=4, unique_by=repr).map(choice),
)
policies = st.sampled_from(
    [
        BanditPolicy(slack_factor=0.1),
        BanditPolicy(slack_amount=2, evaluation_interval=3, delay_evaluation=4),
        MedianStoppingPolicy(),
        TruncationSelectionPolicy(truncation_percentage=7, exclude_finished_jobs=True),
        AshaPolicy(max_resource=9),
        NoTerminationPolicy(),
        None,
    ]
)


@given(st.dictionaries(names, leaves, min_size=1, max_size=4), policies, st.data())
def test_written_and_read_it_is_the_same(
    space: dict[str, Expression], policy: Any, data: st.DataObject
) -> None:
    if "inner" not in space:
        space["chosen"] = choice("a", Option("b", {"inner": uniform(0, 1)}), Option(3))
    sampling = data.draw(st.sampled_from(["random", "sobol", "bayesian"]))
    config = sweep(
        space,
        sampling,
        policy=policy,
        goal=data.draw(st.sampled_from(list(PrimaryMetricGoal))),
        resume_from=data.draw(st.lists(st.sampled_from(["a", "exp_1", "@-1"]), max_size=2)),
        max_concurrent_runs=data.draw(st.none() | st.integers(1, 9)),
        pass_as=data.draw(st.sampled_from(["arguments", "file"])),
        **({"seed": data.draw(st.integers(0, 9))} if data.draw(st.booleans()) else {}),
    )
    text = dump_sweep(config)
    again = read_sweep(text, "x")
    assert again == config and list(again.space) == list(config.space)
    assert dump_sweep(again) == text


def test_saved_and_loaded(tmp_path: Path) -> None:
    config = load_sweep(written(tmp_path, WHOLE))
    save_sweep(config, tmp_path / "again.yaml")
    assert 'source_directory: "."\n' in (tmp_path / "again.yaml").read_text()
    assert load_sweep(tmp_path / "again.yaml") == config
    assert oct((tmp_path / "again.yaml").stat().st_mode)[-3:] in ("644", "600", "664", "640")
    SCHEMA.validate(plain(read_file(tmp_path / "again.yaml")[0]))


def test_overrides_and_flags(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    config = load_sweep(
        path,
        overrides=[
            "sweep.max_total_runs=3",
            "sweep.space.lr={uniform: [0, 1]}",
            "sweep.space.batch.choice=[1]",
            "sweep.policy=median_stopping",
            "resources.time=2h",
        ],
        flags={"experiment": "other"},
    )
    assert config.max_total_runs == 3 and config.policy == MedianStoppingPolicy()
    assert config.space["batch"] == choice(1) and config.run_config.experiment == "other"
    assert config.run_config.resources.time == 7200
    with pytest.raises(ConfigError, match=r"--set: sweep\.seed: expected a whole number"):
        load_sweep(path, overrides=["sweep.seed=x"])


def test_an_override_keeps_its_place_in_the_space(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE.replace("--lr", "lr"))
    config = load_sweep(path, overrides=["sweep.space.lr={uniform: [0, 1]}"])
    assert list(config.space) == ["lr", "batch", "optimizer"] and config.space["lr"] == uniform(0, 1)


def test_a_sweep_that_names_a_run(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    written(tmp_path, "script: a.py\narguments: [--lr, 1]\nresources: {nodes: 2}\n", "project/run.yaml")
    section = WHOLE.partition("sweep:")[2]
    path = written(tmp_path, f"run: project/run.yaml\nresources: {{time: 2h}}\nsweep:{section}")
    run = load_sweep(path).run_config
    assert run.source_directory == str(tmp_path / "project") and run.script == "a.py"
    assert run.resources.nodes == 2 and run.resources.time == 7200
    SCHEMA.validate(plain(read_file(path)[0]))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("median_stopping", MedianStoppingPolicy()),
        ("{median_stopping: }", MedianStoppingPolicy()),
        ("asha", AshaPolicy()),
        ("{asha: {reduction_factor: 3}}", AshaPolicy(reduction_factor=3)),
        ("no_termination", NoTerminationPolicy()),
        ("", NoTerminationPolicy()),
    ],
)
def test_ways_to_write_a_policy(tmp_path: Path, policy: str, expected: object) -> None:
    head, tail = WHOLE.split("  policy:")
    path = written(tmp_path, f"{head}  policy: {policy}\n{tail.partition(chr(10))[2]}")
    assert load_sweep(path).policy == expected
    SCHEMA.validate(plain(read_file(path)[0]))


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    text = WHOLE.replace("choice: [32, 64]", "choice: [1e-4, 0.001, 1_000, true, '1e-4']")
    got = load_sweep(written(tmp_path, text)).space["batch"].choice
    assert got is not None and got[:2] == [0.0001, 0.001] and got[3:] == [True, "1e-4"]


def test_no_such_file_and_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_sweep(tmp_path / "sweep.yaml")
    path = written(tmp_path, "script: a.py\n")
    assert not is_sweep(path)
    with pytest.raises(ConfigError, match="sweep: is missing"):
        load_sweep(path)


def config_of(**more: Any) -> SweepConfig:
    given: dict[str, Any] = {
        "run_config": ScriptRunConfig(".", "a.py"),
        "hyperparameter_sampling": RandomParameterSampling({"lr": uniform(0, 1)}),
        "primary_metric_name": "loss",
        "primary_metric_goal": PrimaryMetricGoal.MINIMIZE,
        "max_total_runs": 5,
    }
    return HyperDriveConfig(**{**given, **more})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"max_total_runs": 0}, "max_total_runs"),
        ({"max_total_runs": None}, "max_total_runs"),
        ({"hyperparameter_sampling": GridParameterSampling({"lr": uniform(0, 1)})}, "a grid takes choice"),
        ({"estimator": 1}, "estimator"),
        ({"primary_metric_goal": "more"}, "primary_metric_goal"),
        ({"primary_metric_name": ""}, "primary_metric_name"),
        ({"run_config": ScriptRunConfig(".", command="a | b")}, "given as text takes no arguments"),
        ({"policy": 3}, "policy"),
    ],
)
def test_python_is_told_as_well(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_of(**more)


def test_an_empty_space() -> None:
    with pytest.raises(ValueError, match="parameter_space"):
        RandomParameterSampling({})
    with pytest.raises(ValueError, match="the same: keep one"):
        RandomParameterSampling({"lr": uniform(0, 1), "--lr": uniform(0, 1)})


def test_what_python_leaves_out() -> None:
    config = config_of(policy=None, primary_metric_goal="minimize")
    assert config.policy == NoTerminationPolicy() and config.max_duration_minutes == 10080
    assert config.primary_metric_goal is PrimaryMetricGoal.MINIMIZE and config.seed is None
    assert config.section.sampling == "random" and config.section.policy is None
    bayesian = config_of(hyperparameter_sampling=BayesianParameterSampling({"lr": uniform(0, 1)}))
    assert bayesian.section.sampling == "bayesian"
    assert config_of(run_config=ScriptRunConfig(".", command=["a"])).pass_as == "arguments"
    run = config.run_config
    assert config_of(run_config=run).run_config is run


def test_the_schema_and_the_reference_in_docs_are_these(tmp_path: Path) -> None:
    main(str(tmp_path))
    reference.main(str(tmp_path))
    name = "sweep.schema.json"
    assert (ROOT / "docs" / "schema" / name).read_bytes() == (tmp_path / name).read_bytes()
    name = "sweep.yaml.md"
    assert (DOCS / "reference" / name).read_bytes() == (tmp_path / name).read_bytes()
    jsonschema.Draft202012Validator.check_schema(sweep_schema())
    assert ">>>" not in text_of(sweep_schema()) and "``" not in text_of(sweep_schema())


@pytest.mark.parametrize("name", CASES)
def test_the_schema_refuses_what_can_be_seen_there(name: str) -> None:
    beyond = {"names-twice", "variables", "run-missing", "run-is-sweep", "command", "grid", "both-runs"}
    data = plain(read_file(CORPUS / f"{name}.yaml")[0])
    assert SCHEMA.is_valid(data) == (name in beyond - {"both-runs", "run-is-sweep"}), name


SECTION = {"space": {"lr": {"uniform": [0, 1]}}, "metric": "m", "goal": "minimize", "max_total_runs": 3}


@pytest.mark.parametrize("key", EXAMPLES_SWEEP)
def test_every_example_of_the_reference_loads(tmp_path: Path, key: str) -> None:
    kind, _, name = key.rpartition(".")
    example = EXAMPLES_SWEEP[key]
    assert example.startswith(f"{name or key}: ")
    lines = [f"  {k}: {v}" for k, v in SECTION.items() if not (kind == "" and k == key)]
    if kind == "":
        lines.append(f"  {example}")
    elif kind == "Expression":
        lines[0] = f"  space: {{x: {{{example}}}}}"
    elif kind == "Option":
        value = "" if name == "value" else "value: x, "
        lines[0] = f"  space: {{x: {{choice: [{{{value}{example}}}]}}}}"
    elif kind == "PolicySection":
        lines.append(f"  policy: {{{example}}}")
    elif kind == "Pack":
        beside = "" if name == "at_once" else "at_once: 2, "
        lines.append(f"  pack: {{{beside}{example}}}")
    else:
        words = {"BanditPolicy": "bandit", "MedianStoppingPolicy": "median_stopping", "AshaPolicy": "asha"}
        policy = words.get(kind, "truncation_selection")
        needed = {"bandit": "slack_factor: 1", "truncation_selection": "truncation_percentage: 20"}
        beside = f"{needed[policy]}, " if policy in needed and name not in example_of(needed[policy]) else ""
        beside = "" if name.startswith("slack") else beside
        lines.append(f"  policy: {{{policy}: {{{beside}{example}}}}}")
    path = written(tmp_path, "script: a.py\nsweep:\n" + "\n".join(lines) + "\n")
    if key == "pass_as":
        path.write_text(path.read_text().replace("lr", "LR"))
    load_sweep(path)
    SCHEMA.validate(plain(read_file(path)[0]))


def example_of(text: str) -> str:
    return text.partition(":")[0]
