"""The models: what they take, what they refuse, and that nothing is lost on the way out and in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hpcrun.models.base import EnvironmentVariables, ExperimentName, Line, Tags
from hpcrun.models.distributed import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from hpcrun.models.environment import Environment
from hpcrun.models.resources import RESERVED_SBATCH, Gpus, Resources
from hpcrun.models.run import ScriptRunConfig, argument_text
from hpcrun.models.site import Connection, Partition, Scheduler, Site

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
arguments = st.lists(
    st.one_of(
        texts,
        st.integers(),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False),
    )
)


def check(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("name", ["a", "A-1_b", "0", "x" * 255])
def test_names_of_experiments(name: str) -> None:
    assert check(ExperimentName, name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "_a", "a b", "a/b", "a.b", "a\n", "\na", "é", "x" * 256, "a;b", 1]
)
def test_names_that_no_experiment_has(name: object) -> None:
    with pytest.raises(ValidationError):
        check(ExperimentName, name)


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\0", "\x1b[31m", "\x7f"])
def test_a_line_is_one_line(text: str) -> None:
    with pytest.raises(ValidationError):
        check(Line, text)


def test_scalars_of_yaml_become_text() -> None:
    assert check(EnvironmentVariables, {"A": 1, "B": 0.1, "C": "x"}) == {"A": "1", "B": "0.1", "C": "x"}
    assert check(Tags, {"any name": 1}) == {"any name": "1"}
    with pytest.raises(ValidationError, match="in quotes"):
        check(EnvironmentVariables, {"A": True})
    wrong: list[Any] = [
        {"A": float("nan")},
        {"A": None},
        {"A": []},
        {"A B": "x"},
        {"A=B": "x"},
        {"A": "\0"},
        {1: "x"},
    ]
    for bad in wrong:
        with pytest.raises(ValidationError):
            check(EnvironmentVariables, bad)


@given(arguments)
def test_arguments_are_kept_in_value_and_type(given_arguments: list[object]) -> None:
    config = ScriptRunConfig(".", "train.py", given_arguments)
    assert [(type(a), a) for a in config.arguments] == [(type(a), a) for a in given_arguments]
    again = ScriptRunConfig.model_validate(config.model_dump())
    assert again == config
    assert [argument_text(a) for a in again.arguments] == [
        a if isinstance(a, str) else repr(a) for a in given_arguments
    ]


@given(arguments, texts.filter(bool), st.dictionaries(texts.filter(lambda t: t.isprintable() and t), texts))
def test_a_config_survives_json(given_arguments: list[object], setup: str, tags: dict[str, str]) -> None:
    tags = {name: value for name, value in tags.items() if len(name) <= 255}
    config = ScriptRunConfig(
        ".",
        "train.py",
        given_arguments,
        environment=Environment("e", setup=setup),
        distributed_job_config=PyTorchConfiguration("gloo", 4, 2),
        resources=Resources(time="90m", memory="1.5T", gpus_per_node="a100:2", sbatch={"mail-type": "END"}),
        tags=tags,
    )
    again = ScriptRunConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert ScriptRunConfig.model_validate_json(config.model_dump_json(exclude_unset=True)) == config


def test_text_is_split_as_a_shell_would() -> None:
    assert ScriptRunConfig(".", "t.py", "--lr 0.1 'a b'").arguments == ["--lr", "0.1", "a b"]
    with pytest.raises(ValidationError, match="quotation"):
        ScriptRunConfig(".", "t.py", "--x 'a")


@pytest.mark.parametrize("bad", [["\0"], [float("nan")], [float("inf")], [None], [["a"]], [b"a"], 3])
def test_arguments_that_are_refused(bad: Any) -> None:
    with pytest.raises(ValidationError):
        ScriptRunConfig(".", "t.py", bad)


def test_a_script_or_a_command() -> None:
    wrong: list[Any] = [
        {},
        {"script": "a", "command": "b"},
        {"command": "b", "arguments": ["c"]},
        {"command": []},
    ]
    for bad in wrong:
        with pytest.raises(ValidationError):
            ScriptRunConfig(".", **bad)
    assert ScriptRunConfig(".", command=["a", "b c"]).command == ["a", "b c"]


def test_the_source_directory_is_absolute_and_links_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert ScriptRunConfig("link", "t.py").source_directory == str(tmp_path / "link")
    assert ScriptRunConfig(tmp_path / "real" / "..", "t.py").source_directory == str(tmp_path)
    assert ScriptRunConfig("~/x", "t.py").source_directory == str(Path.home() / "x")
    with pytest.raises(ValidationError):
        ScriptRunConfig("", "t.py")


@pytest.mark.parametrize("target", ["local", "snellius", "snellius:gpu_h100", "a.b-c:x y"])
def test_compute_targets(target: str) -> None:
    if " " in target:
        with pytest.raises(ValidationError):
            ScriptRunConfig(".", "t.py", compute_target=target)
    else:
        assert ScriptRunConfig(".", "t.py", compute_target=target).compute_target == target
        assert ScriptRunConfig(".", "t.py", compute_target=Named(target)).compute_target == target


class Named:
    """A compute target as Azure ML passes one: an object with a name."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_a_refused_assignment_changes_nothing() -> None:
    config = ScriptRunConfig(".", "t.py", ["a"])
    before = config.model_dump()
    for name, value in (("command", "x"), ("script", None), ("arguments", [None]), ("tags", 3), ("typo", 1)):
        with pytest.raises(ValidationError):
            setattr(config, name, value)
        assert config.model_dump() == before
    assert "command" not in config.model_fields_set


def test_run_config_is_a_view() -> None:
    config = ScriptRunConfig(".", "t.py")
    config.run_config.target = "snellius:gpu"
    config.run_config.environment_variables = {"A": 1}
    assert config.compute_target == "snellius:gpu" == config.run_config.target
    assert config.environment_variables == {"A": "1"}
    with pytest.raises(ValidationError):
        config.run_config.target = "a b"
    with pytest.raises(AttributeError, match="max_run_duration_seconds"):
        config.run_config.targt = "x"


def test_environments_are_assigned_to_as_in_azure_ml() -> None:
    env = Environment("user-managed-env")
    env.python.user_managed_dependencies = True
    assert env.kind == "system"
    assert Environment("e", conda={"name": "torch"}).kind == "conda"
    assert Environment("e", apptainer={"image": "x.sif"}).kind == "apptainer"
    with pytest.raises(ValidationError):
        env.python.user_managed_dependancies = True
    with pytest.raises(ValidationError, match="exclude each other"):
        Environment("e", conda={"name": "a"}, apptainer={"image": "b"})
    for bad in ({}, {"name": "a", "prefix": "/b"}, {"prefix": "relative"}):
        with pytest.raises(ValidationError):
            Environment("e", conda=bad)


def test_defaults_are_not_shared_between_models() -> None:
    one, other = ScriptRunConfig(".", "t.py"), ScriptRunConfig(".", "t.py")
    one.arguments.append("x")
    one.tags["a"] = "b"
    one.environment.modules.append("m")
    assert (other.arguments, other.tags, other.environment.modules) == ([], {}, [])


@pytest.mark.parametrize(
    ("given_gpus", "count", "kind"),
    [
        (2, 2, None),
        ("2", 2, None),
        ("a100:2", 2, "a100"),
        ({"type": "h100", "count": 4}, 4, "h100"),
        (0, 0, None),
    ],
)
def test_gpus(given_gpus: object, count: int, kind: str | None) -> None:
    assert Resources(gpus_per_node=given_gpus).gpus_per_node == Gpus(count=count, type=kind)


@pytest.mark.parametrize(
    "bad", [-1, "a100", "a100:", "a100:x", "a:b:c:1;", True, 1.5, "a b:1", "²", {"n": 1}, 2000]
)
def test_what_are_no_gpus(bad: object) -> None:
    with pytest.raises(ValidationError):
        Resources(gpus_per_node=bad)


def test_resources_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        Resources(memory="1G", memory_per_cpu="1G")
    for bad in ({"nodes": 0}, {"nodes": "2"}, {"nodes": True}, {"nodes": 1.0}, {"memory": 0}, {"time": "x"}):
        with pytest.raises(ValidationError):
            Resources(**bad)


@pytest.mark.parametrize("name", sorted(RESERVED_SBATCH))
def test_options_that_hpcrun_writes_itself_are_refused(name: str) -> None:
    for spelled in (name, f"--{name}", name.replace("-", "_")):
        with pytest.raises(ValidationError, match="cannot be set here"):
            Resources(sbatch={spelled: "x"})
    assert Scheduler(sbatch={name: "x"}).sbatch == {name: "x"}


def test_other_options_go_through() -> None:
    options = {"--mail_type": "END", "hint": "nomultithread", "spread-job": True, "nice": 10, "no-kill": None}
    expected = {"mail-type": "END", "hint": "nomultithread", "spread-job": True, "nice": 10, "no-kill": None}
    assert Resources(sbatch=options).sbatch == expected
    for bad in ({"-p": "x"}, {"a b": "x"}, {"mail-type": "a\nb"}, {"": "x"}, {"nice": 1.5}, {"A": 1}):
        with pytest.raises(ValidationError):
            Resources(sbatch=bad)


def test_frozen_models_stay_as_they_are() -> None:
    for model, name in ((Resources(), "nodes"), (MpiConfiguration(), "node_count"), (Site(name="a"), "name")):
        with pytest.raises(ValidationError):
            setattr(model, name, 3)


@pytest.mark.parametrize("backend", ["nccl", "gloo", "NCCL", "Gloo"])
def test_backends(backend: str) -> None:
    assert PyTorchConfiguration(backend).communication_backend == backend.lower()


def test_distributed_kinds_are_told_apart_by_type() -> None:
    config = ScriptRunConfig(".", "t.py", distributed_job_config={"type": "mpi", "node_count": 2})
    assert config.distributed_job_config == MpiConfiguration(node_count=2)
    config = ScriptRunConfig(".", "t.py", distributed_job_config=TensorflowConfiguration(2, 0))
    assert config.distributed_job_config == TensorflowConfiguration(worker_count=2, parameter_server_count=0)
    for bad in ({"node_count": 2}, {"type": "mpl"}, {"type": "mpi", "process_count": 2}):
        with pytest.raises(ValidationError):
            ScriptRunConfig(".", "t.py", distributed_job_config=bad)


def test_a_site() -> None:
    site = Site(
        name="snellius",
        root="$SCRATCH/hpcrun",
        partitions={"gpu": check(Partition, {"max_time": "5-00:00:00", "max_memory_per_node": "700G"})},
        default_partition="gpu",
    )
    assert site.connection == Connection() and site.scheduler.type == "slurm"
    assert Site.model_validate_json(site.model_dump_json()) == site
    with pytest.raises(ValidationError, match="not among partitions: gpu"):
        Site(name="a", partitions={"gpu": Partition()}, default_partition="cpu")
    for bad in (
        {"name": "a b"},
        {"name": "a", "root": "relative"},
        {"name": "a", "scheduler": {"type": "pbs"}},
    ):
        with pytest.raises(ValidationError):
            Site(**bad)


def test_unknown_keys_are_refused_everywhere() -> None:
    for make in (
        lambda: ScriptRunConfig(".", "t.py", typo=1),
        lambda: Resources(typo=1),
        lambda: check(Site, {"name": "a", "typo": 1}),
        lambda: Environment("e", typo=1),
        lambda: MpiConfiguration(typo=1),
    ):
        with pytest.raises(ValidationError, match="typo"):
            make()
