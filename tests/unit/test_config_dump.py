"""A configuration written and read again is the same configuration."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given
from pydantic import ValidationError

from hpcrun.config.load import check_files, dump_run_config, load_run_config, save_run_config
from hpcrun.config.yamltree import parse
from hpcrun.models.distributed import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from hpcrun.models.environment import ApptainerSection, CondaSection, Environment, PythonSection
from hpcrun.models.resources import Gpus, Resources
from hpcrun.models.run import ScriptRunConfig
from hpcrun.units import Duration, Memory

TRICKY = [
    "", " ", "~", "null", "true", "True", "yes", "no", "on", "5", "-5", "1.0", "1e5", ".nan", ".inf",
    "0o17", "0x1F", "007", "1_000", "1:30:00", "2024-01-01", "- a", "a: b", "a #b", "#", "*a", "&a", "!a",
    "%a", "@a", "`a", "|", ">", "{a}", "[a]", "'", '"', "\\", "a\nb", "a\nb\n", "\na", "a\n\n", " a\nb",
    "a \nb", "a\n b\n", "a\r\nb", "\t", "a\tb", "\x07", "\x1b[31m", "\x7f", "\x85", "\xa0", "\u2028",
    "\u2029", "\ufeff", "\ufffe", "\udc80", "ü", "日本語", "😀", "---", "...", "--lr", "-", "--", "?", ":",
    "a:", ":a", "a:b", "=", "<<", "x" * 2000, "a" * 100 + " " + "b" * 100, "{{x}}", "$HOME", "`id`", "a,b",
    "a, b", "1,000", "y", "n", "é\u0301", "\u200b", "#!/bin/bash\necho hi\n\nexit 0\n",
]  # fmt: skip

text = st.one_of(st.sampled_from(TRICKY), st.text(max_size=12)).filter(
    lambda s: "\0" not in s and not any(0xD800 <= ord(c) < 0xE000 for c in s)
)
line = text.filter(lambda s: not any(ord(c) < 32 or ord(c) == 127 for c in s)).map(lambda s: s[:64])
name = line.filter(bool)
count = st.integers(1, 1_000_000)
variable = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
variables = st.dictionaries(variable, text, max_size=3)
argument = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.just(10**4000), text
)
memory = st.integers(1, 1024**4).map(Memory)
duration = st.integers(1, 365 * 86400 * 10).map(Duration)


def _maybe(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


def _resources(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return _maybe(
        {
            "nodes": st.none(),
            "cpus_per_task": st.none() | count,
            "gpus_per_node": st.one_of(
                st.integers(1, 1024),
                st.builds(
                    Gpus, count=st.integers(1, 9), type=st.sampled_from(["a100", "1", "1e5", "0x1", "null"])
                ),
            ),
            kind: memory,
            "time": st.none() | duration,
            **dict.fromkeys(("partition", "account", "qos", "constraint", "reservation"), st.none() | name),
            "exclusive": st.none() | st.booleans(),
            "sbatch": st.dictionaries(
                st.sampled_from(["mail-type", "nice", "hint", "null", "yes"]),
                st.one_of(st.none(), st.booleans(), st.integers(), line),
            ),
        }
    )


resources = st.one_of(_resources("memory"), _resources("memory_per_cpu")).map(
    lambda values: Resources(**values)
)
environment = st.builds(
    lambda values, kind: Environment(**values, **kind),
    _maybe(
        {
            "name": name,
            "modules": st.lists(name, max_size=3),
            "setup": st.none() | text,
            "environment_variables": variables,
            "python": st.builds(
                PythonSection, user_managed_dependencies=st.booleans(), interpreter_path=st.none() | name
            ),
        }
    ),
    st.one_of(
        st.just({}),
        st.builds(lambda n: {"conda": CondaSection(name=n)}, name),
        st.builds(lambda p: {"conda": CondaSection(prefix="/" + p)}, line),
        st.builds(
            lambda i, b, g, c: {"apptainer": ApptainerSection(image=i, binds=b, gpu=g, clean_environment=c)},
            name,
            st.lists(name, max_size=3),
            st.sampled_from(["auto", "nvidia", "rocm", "none"]),
            st.booleans(),
        ),
    ),
)
distributed = st.one_of(
    st.none(),
    st.builds(MpiConfiguration, st.none() | count, st.none() | count),
    st.builds(
        lambda b, per, n: PyTorchConfiguration(b, per and per * (n or 1), n),
        st.sampled_from([None, "nccl", "gloo", "Gloo"]),
        st.none() | st.integers(1, 64),
        st.none() | st.integers(1, 1000),
    ),
    st.builds(
        lambda b, n, more, r: PyTorchConfiguration(
            b, launcher="torchrun", min_nodes=n, max_nodes=min(n + more, 10**6), max_restarts=r
        ),
        st.sampled_from([None, "gloo"]),
        count,
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(TensorflowConfiguration, st.none() | count, st.none() | st.integers(0, 9)),
)
what = st.one_of(
    st.builds(lambda s, a: {"script": s, "arguments": a}, name, st.lists(argument, max_size=5)),
    st.builds(lambda c: {"command": c}, text.filter(bool) | st.lists(text, min_size=1, max_size=4)),
)


@st.composite
def configs(draw: st.DrawFn) -> ScriptRunConfig:
    below = draw(st.sampled_from(["BASE", "BASE/", "BASE/..", "/", "BASE/~", "/BASE"]))
    values: dict[str, Any] = {
        "source_directory": below.replace("BASE", "/some/base") + "/" + draw(st.just("") | text),
        **draw(what),
        **draw(
            _maybe(
                {
                    "experiment": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True),
                    "display_name": line,
                    "compute_target": st.sampled_from(
                        ["local", "a:b", "1e5", "007", "a:1:30"[:3], "null", "1.5"]
                    ),
                    "environment": environment,
                    "resources": resources,
                    "max_run_duration_seconds": st.integers(1, 315_360_000),
                    "resume_from": line,
                    "environment_variables": variables,
                    "tags": st.dictionaries(name, text, max_size=3),
                }
            )
        ),
        "distributed_job_config": draw(distributed),
    }
    return ScriptRunConfig(**values)


@pytest.mark.slow
@given(configs())
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, config: ScriptRunConfig
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    for base in (None, Path("/some/base")):
        path.write_text(dump_run_config(config, base), encoding="utf-8")
        if base is None:
            assert load_run_config(path) == config
        else:
            relative = load_run_config(path).source_directory
            shifted = relative.replace(str(path.parent), "/some/base", 1)
            assert shifted == config.source_directory
    again = dump_run_config(load_run_config(path), path.parent)
    assert again == dump_run_config(config, Path("/some/base"))


@given(text)
def test_any_text_is_written_so_that_it_reads_as_itself_here_and_elsewhere(value: str) -> None:
    config = ScriptRunConfig(
        "/x", command=value or "x", tags={"k": value}, environment_variables={"V": value}
    )
    dumped = dump_run_config(config)
    node, problems = parse(dumped, "f")
    assert node is not None and not problems
    elsewhere = yaml.safe_load(dumped)
    assert elsewhere["tags"] == {"k": value} and elsewhere["command"] == (value or "x")


def test_a_file_as_a_person_would_write_it() -> None:
    config = ScriptRunConfig(
        "/home/alice/cifar/src",
        "train.py",
        ["--epochs", 10, "--lr", 0.1, "--amp", True, "two words", "5"],
        experiment="cifar",
        compute_target="cluster:gpu",
        distributed_job_config=PyTorchConfiguration(process_count=8, node_count=2),
        resources=Resources(gpus_per_node="a100:4", time="90m", memory="100G", qos=None),
    )
    config.environment.setup = "module purge\nexport A=1\n"
    assert dump_run_config(config, Path("/home/alice/cifar")) == (
        "experiment: cifar\n"
        "source_directory: src\n"
        "script: train.py\n"
        "arguments:\n"
        "- --epochs\n"
        "- 10\n"
        "- --lr\n"
        "- 0.1\n"
        "- --amp\n"
        "- True\n"
        "- two words\n"
        '- "5"\n'
        "compute_target: cluster:gpu\n"
        "environment:\n"
        "  setup: |\n"
        "    module purge\n"
        "    export A=1\n"
        "distributed_job_config:\n"
        "  type: pytorch\n"
        "  process_count: 8\n"
        "  node_count: 2\n"
        "resources:\n"
        "  gpus_per_node: a100:4\n"
        "  memory: 100G\n"
        '  time: "01:30:00"\n'
        "  qos: null\n"
    )


def test_arguments_reach_the_script_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("script: a.py\narguments: [1e-4, 1.10, 0.1, 010, +5, 7, true, True, yes, '3']\n")
    assert load_run_config(path).arguments == [
        "1e-4", "1.10", 0.1, "010", "+5", 7, "true", True, "yes", "3",
    ]  # fmt: skip


def test_numbers_where_text_is_wanted_come_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "script: a.py\nenvironment_variables: {V: 1.10}\ntags: {commit: 12e4567, n: 1e5, v: 0x10}\n"
    )
    config = load_run_config(path)
    assert config.environment_variables == {"V": "1.10"}
    assert config.tags == {"commit": "12e4567", "n": "1e5", "v": "0x10"}


def test_the_source_directory_is_the_file_s_folder_and_links_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "run.yaml").write_text("script: a.py\n")
    assert load_run_config(tmp_path / "link" / "run.yaml").source_directory == str(tmp_path / "link")


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    config = ScriptRunConfig(tmp_path / "src", "a.py")
    save_run_config(config, path)
    assert load_run_config(path) == config and "source_directory: src\n" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_run_config(ScriptRunConfig(tmp_path, "b.py"), path)
    assert load_run_config(path) == config and [p.name for p in tmp_path.iterdir()] == ["run.yaml"]


def test_what_was_assigned_since_is_no_longer_the_file_s(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("script: none.py\nsource_directory: .\n")
    config = load_run_config(path)
    assert check_files(config)[0].where == f"{path}:1:9"
    config.script = "other.py"
    assert check_files(config)[0].where == "Python"


def test_a_copy_and_a_pickle_are_equal(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "run.yaml"
    path.write_text("script: a.py\n")
    config = load_run_config(path)
    assert config == ScriptRunConfig(tmp_path, "a.py") == config.model_copy(deep=True)
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301


def test_models_still_refuse_by_themselves() -> None:
    with pytest.raises(ValidationError):
        ScriptRunConfig(".", "a.py", command="b")
