"""Layers on top of each other, and ``--set``."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.config.load import (
    apply_site,
    find_target,
    load_run_config,
    resolve_run_config,
    save_run_config,
)
from hpcrun.config.merge import parse_override
from hpcrun.config.pipeline import load_pipeline
from hpcrun.config.sites import read_site
from hpcrun.config.tree import ListNode, MapNode, Node
from hpcrun.errors import ConfigError
from hpcrun.models.distributed import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from hpcrun.models.resources import Resources
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.units import Duration, Memory

SITE = """
default_partition: cpu
default_account: proj
partitions:
  cpu:
    defaults: {cpus_per_task: 4, memory_per_cpu: 2G}
  gpu:
    defaults:
      gpus_per_node: a100:4
      memory_per_gpu: 100G
      time: 2h
defaults:
  time: 1h
  memory: 8G
  tasks_per_node: 3
  sbatch: {mail-type: END, hint: nomultithread}
"""


def _site(tmp_path: Path, text: str = SITE) -> Site:
    folder = tmp_path / "site_configs"
    folder.mkdir(exist_ok=True)
    (folder / "cluster.yaml").write_text(text)
    return read_site(folder / "cluster.yaml")


def _run(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("script: train.py\n" + text)
    return path


def _plain(node: Node) -> object:
    if isinstance(node, MapNode):
        return {key: _plain(child) for key, child in node.entries.items()}
    if isinstance(node, ListNode):
        return [_plain(item) for item in node.items]
    return node.value


def _all_ways(path: Path, site: Site) -> ScriptRunConfig:
    """The site applied while loading and afterwards must come to the same."""
    at_once = load_run_config(path, site=site)
    afterwards = apply_site(load_run_config(path), site)
    assert at_once == afterwards
    assert apply_site(afterwards, site) == afterwards
    return at_once


def test_site_then_partition_then_file(tmp_path: Path) -> None:
    path = _run(tmp_path, "compute_target: cluster:gpu\nresources: {nodes: 2, sbatch: {hint: multithread}}\n")
    res = _all_ways(path, _site(tmp_path)).resources
    assert (res.nodes, res.time, str(res.gpus_per_node)) == (2, Duration.parse("2h"), "a100:4")
    assert (res.partition, res.account, res.tasks_per_node) == ("gpu", "proj", 3)
    assert res.sbatch == {"mail-type": "END", "hint": "multithread"}
    assert (res.memory, res.memory_per_gpu) == (None, Memory.parse("100G"))


def test_the_default_partition_and_its_defaults(tmp_path: Path) -> None:
    res = _all_ways(_run(tmp_path, "compute_target: cluster\n"), _site(tmp_path)).resources
    assert (res.partition, res.cpus_per_task, res.memory_per_cpu) == ("cpu", 4, Memory.parse("2G"))


def test_a_partition_of_the_resources(tmp_path: Path) -> None:
    path = _run(tmp_path, "compute_target: cluster\nresources: {partition: gpu}\n")
    assert str(_all_ways(path, _site(tmp_path)).resources.gpus_per_node) == "a100:4"


def test_gpus_are_one_value_and_keep_nothing_of_the_default(tmp_path: Path) -> None:
    for text in ("2", "{count: 2}"):
        path = _run(tmp_path, f"compute_target: cluster:gpu\nresources: {{gpus_per_node: {text}}}\n")
        assert str(_all_ways(path, _site(tmp_path)).resources.gpus_per_node) == "2"


@pytest.mark.parametrize(
    ("key", "value"), [("memory", "5G"), ("memory_per_cpu", "5G"), ("memory_per_gpu", "5G")]
)
def test_one_kind_of_memory_replaces_another(tmp_path: Path, key: str, value: str) -> None:
    path = _run(tmp_path, f"compute_target: cluster:gpu\nresources: {{{key}: {value}}}\n")
    res = _all_ways(path, _site(tmp_path)).resources
    given = {k for k in ("memory", "memory_per_cpu", "memory_per_gpu") if getattr(res, k) is not None}
    assert given == {key} and getattr(res, key) == Memory.parse(value)


def test_without_gpus_there_is_no_memory_for_each(tmp_path: Path) -> None:
    path = _run(tmp_path, "compute_target: cluster:gpu\nresources: {gpus_per_node: 0}\n")
    res = _all_ways(path, _site(tmp_path)).resources
    assert (res.gpu_count, res.memory_per_gpu, res.memory) == (0, None, None)


def test_null_takes_a_default_away(tmp_path: Path) -> None:
    path = _run(tmp_path, "compute_target: cluster:gpu\nresources: {time: null, memory_per_gpu: ~}\n")
    res = _all_ways(path, _site(tmp_path)).resources
    assert (res.time, res.memory_per_gpu) == (None, None)


def test_a_key_with_nothing_below_it_says_nothing(tmp_path: Path) -> None:
    path = _run(
        tmp_path,
        "compute_target: cluster:gpu\nresources:\n  # nodes: 2\n"
        "environment:\narguments:\ntags:\nsource_directory:\n",
    )
    config = _all_ways(path, _site(tmp_path))
    assert config.resources.time == Duration.parse("2h") and config.arguments == [] and config.tags == {}
    assert config.source_directory == str(tmp_path)


def test_processes_of_the_file_replace_those_of_the_site(tmp_path: Path) -> None:
    path = _run(
        tmp_path, "compute_target: cluster\ndistributed_job_config: {type: mpi, process_count_per_node: 8}\n"
    )
    config = _all_ways(path, _site(tmp_path))
    assert config.resources.tasks_per_node is None
    assert config.distributed_job_config == MpiConfiguration(8)


def test_on_a_local_site_there_is_no_account_and_no_partition(tmp_path: Path) -> None:
    text = "scheduler: {type: local}\ndefault_account: a\ndefault_partition: p\n"
    text += "defaults: {account: b, time: 1h}\n"
    res = _all_ways(_run(tmp_path, ""), _site(tmp_path, text)).resources
    assert (res.account, res.partition, res.time) == (None, None, Duration.parse("1h"))


def test_a_config_made_in_python_is_filled_and_left_as_it_was(tmp_path: Path) -> None:
    config = ScriptRunConfig(tmp_path, "train.py", compute_target="cluster:gpu", resources=Resources(nodes=2))
    config.environment.python.user_managed_dependencies = True
    before = config.model_copy(deep=True)
    filled = apply_site(config, _site(tmp_path))
    assert filled.resources.time == Duration.parse("2h") and filled.resources.nodes == 2
    assert filled.environment.python.user_managed_dependencies
    assert config == before


def test_the_partition_may_be_given_apart(tmp_path: Path) -> None:
    config = ScriptRunConfig(tmp_path, "train.py", compute_target="cluster")
    assert apply_site(config, _site(tmp_path), "gpu").resources.partition == "gpu"
    with pytest.raises(ConfigError, match="cluster has no partition gqu: did you mean gpu"):
        apply_site(config, _site(tmp_path), "gqu")


def test_a_site_that_lists_no_partitions_takes_any(tmp_path: Path) -> None:
    config = ScriptRunConfig(tmp_path, "train.py", compute_target="cluster:whatever")
    assert apply_site(config, _site(tmp_path, "description: x\n")).resources.partition == "whatever"


def test_several_partitions_are_each_looked_up(tmp_path: Path) -> None:
    config = ScriptRunConfig(tmp_path, "train.py", compute_target="cluster:gpu,cpu")
    filled = apply_site(config, _site(tmp_path)).resources
    assert (filled.partition, filled.time) == ("gpu,cpu", Duration.parse("2h"))
    config.compute_target = "cluster:gpu,fat"
    with pytest.raises(ConfigError, match="has no partition fat"):
        apply_site(config, _site(tmp_path))


def test_places_of_a_site_s_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = _site(tmp_path, "defaults:\n  memory_per_gpu: 4G\n")
    path = _run(tmp_path, "compute_target: cluster\n")
    with pytest.raises(ConfigError) as caught:
        load_run_config(path, site=site)
    assert caught.value.problems[0].where == "site_configs/cluster.yaml:2:19"
    config = load_run_config(path)
    with pytest.raises(ConfigError) as caught:
        apply_site(config, site)
    assert caught.value.problems[0].where == "site_configs/cluster.yaml:2:19"


def test_a_python_config_s_problems_are_python_s(tmp_path: Path) -> None:
    config = ScriptRunConfig(tmp_path, "train.py", compute_target="nowhere")
    with pytest.raises(ConfigError) as caught:
        find_target(config, None)
    assert (caught.value.problems[0].where, caught.value.problems[0].path) == ("Python", "compute_target")


def test_set_over_file_and_flags_over_set(tmp_path: Path) -> None:
    path = _run(tmp_path, "resources: {nodes: 1, time: 1h, qos: a}\n")
    config = load_run_config(
        path,
        overrides=["resources.nodes=2", "resources.time=2h", "tags.a b=c", 'tags."x.y"=1.10'],
        flags={"resources.time": "3h", "resources.qos": None, "experiment": "cifar"},
        defaults={"resources": {"account": "me", "nodes": 7}},
    )
    res = config.resources
    assert (res.nodes, res.time, res.qos, res.account) == (2, Duration.parse("3h"), "a", "me")
    assert config.tags == {"a b": "c", "x.y": "1.10"} and config.experiment == "cifar"


def test_an_override_of_what_is_inside_an_image_leaves_the_image(tmp_path: Path) -> None:
    """And of the image what is inside; unless it is taken away, or there was no image to be inside of."""
    (tmp_path / "run.yaml").write_text(
        "command: x\nenvironment: {apptainer: {image: a.sif}, venv: {packages: [p]}}\n"
    )
    (tmp_path / "bare.yaml").write_text("command: x\nenvironment: {apptainer: {image: a.sif}}\n")
    (tmp_path / "venv.yaml").write_text("command: x\nenvironment: {venv: {packages: [p]}}\n")

    def kinds(file: str, *overrides: str) -> tuple[str | None, list[str] | None]:
        environment = load_run_config(tmp_path / file, overrides=overrides).environment
        image, venv = environment.apptainer, environment.venv
        return None if image is None else image.image, None if venv is None else venv.packages

    assert kinds("run.yaml", "environment.venv.packages=[q]") == ("a.sif", ["q"])
    assert kinds("bare.yaml", "environment.venv.packages=[q]") == ("a.sif", ["q"])
    assert kinds("run.yaml", "environment.apptainer.image=b.sif") == ("b.sif", ["p"])
    assert kinds("venv.yaml", "environment.apptainer.image=b.sif") == ("b.sif", None)
    assert kinds("bare.yaml", "environment.apptainer=", "environment.venv.packages=[q]") == (None, ["q"])


def test_overrides_of_a_config_made_in_python(tmp_path: Path) -> None:
    config = ScriptRunConfig(tmp_path, "a.py", ["--x"])
    changed = resolve_run_config(config, overrides=["command=echo a: b # c"], flags={"resources.nodes": 1})
    assert (changed.script, changed.command, changed.arguments) == (None, "echo a: b # c", [])
    assert config.script == "a.py"


@pytest.mark.parametrize(
    ("below", "override", "attribute", "value"),
    [
        ("environment: {conda: {name: a}}", "environment.apptainer.image=x.sif", "environment.conda", None),
        ("environment: {apptainer: {image: a}}", "environment.conda.name=x", "environment.apptainer", None),
        ("environment: {conda: {name: a}}", "environment.conda.prefix=/x", "environment.conda.name", None),
        ("environment: {conda: {name: a}}", "environment.conda=", "environment.conda", None),
        ("resources: {memory_per_cpu: 1G}", "resources.memory=2G", "resources.memory_per_cpu", None),
        ("distributed_job_config: {type: mpi, node_count: 3}", "resources.nodes=4",
         "distributed_job_config", MpiConfiguration()),
        ("distributed_job_config: {type: mpi, process_count_per_node: 3}",
         "distributed_job_config.type=pytorch", "distributed_job_config", PyTorchConfiguration()),
        ("distributed_job_config: {type: mpi}", "distributed_job_config=null",
         "distributed_job_config", None),
        ("resources: {nodes: 4}", "distributed_job_config={type: mpi, node_count: 2}",
         "resources.nodes", None),
        ("distributed: {mpi: {node_count: 3}}", "distributed.mpi.process_count_per_node=4",
         "distributed_job_config", MpiConfiguration(4, 3)),
        ("distributed: {mpi: {node_count: 3}}", "distributed_job_config.node_count=4",
         "distributed_job_config", MpiConfiguration(node_count=4)),
        ("distributed_job_config: {type: mpi, node_count: 3}", "distributed.pytorch.node_count=2",
         "distributed_job_config", PyTorchConfiguration(node_count=2)),
        ("distributed: {mpi: }", "distributed_job_config=null", "distributed_job_config", None),
        ("distributed: {pytorch: {node_count: 3, launcher: torchrun}}",
         "distributed.pytorch={min_nodes: 1, max_nodes: 2}", "distributed_job_config",
         PyTorchConfiguration(launcher="torchrun", min_nodes=1, max_nodes=2)),
        ("distributed: {pytorch: {launcher: torchrun, min_nodes: 1, max_nodes: 2}}", "resources.nodes=3",
         "distributed_job_config", PyTorchConfiguration(launcher="torchrun")),
        ("resources: {nodes: 4, tasks_per_node: 2}", "distributed.tensorflow.worker_count=2",
         "resources", Resources()),
        ("compute_target: a:gpu", "resources.partition=cpu", "compute_target", "a"),
        ("resources: {partition: cpu}", "compute_target=a:gpu", "resources.partition", None),
        ("environment_variables: {A: b}", "environment_variables.A=", "environment_variables", {}),
        ("tags: {A: b}", "tags.B=", "tags", {"A": "b"}),
        ("", "tags.B=", "tags", {}),
        ("resources: {sbatch: {nice: 1}}", "resources.sbatch.nice=false",
         "resources.sbatch", {"nice": False}),
        ("arguments: [a, b]", "arguments=[c, 1e-4, '5', 1.10]", "arguments", ["c", "1e-4", "5", "1.10"]),
        ("arguments: [a, b]", "arguments=--x 'y z'", "arguments", ["--x", "y z"]),
        ("display_name: x", "display_name=second: try # 2", "display_name", "second: try # 2"),
        ("display_name: x", 'display_name="5"', "display_name", "5"),
        ("display_name: x", "display_name=", "display_name", None),
        ("resources: {nodes: 1}", "resources.nodes= 3 ", "resources.nodes", 3),
        ("", "resources.time=1:30:00", "resources.time", Duration.parse("90m")),
    ],
)  # fmt: skip
def test_an_override_has_the_last_word(
    tmp_path: Path, below: str, override: str, attribute: str, value: object
) -> None:
    got: object = load_run_config(_run(tmp_path, below + "\n"), overrides=[override])
    for name in attribute.split("."):
        got = getattr(got, name)
    assert got == value


def test_a_relative_source_directory_of_an_override_is_the_shell_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = _run(tmp_path, "source_directory: src\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_run_config(path).source_directory == str(tmp_path / "src")
    changed = load_run_config(path, overrides=["source_directory=src"])
    assert changed.source_directory == str(tmp_path / "elsewhere" / "src")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a=1", ("a",), 1),
        ("a.b=[1, x]", ("a", "b"), [1, "x"]),
        ("a={b: c}", ("a",), {"b": "c"}),
        ("a.'b.c'.d=x=y", ("a", "b.c", "d"), "x=y"),
        ('"a=b"=c', ("a=b",), "c"),
        ("a=", ("a",), None),
        ("a= x ", ("a",), " x "),
        ("a=*", ("a",), "*"),
    ],
)
def test_how_an_override_is_read(text: str, path: tuple[str, ...], value: object) -> None:
    got = parse_override(text)
    assert got[0] == path and _plain(got[1]) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes", "expected KEY=VALUE"),
        ("=2", "expected KEY=VALUE"),
        ("a..b=2", "expected KEY=VALUE"),
        ('"a=2', "expected KEY=VALUE"),
        ("", "expected KEY=VALUE"),
        ("arguments[0]=x", r"arguments=\[first, second\]"),
        ("arguments.0=x", r"arguments=\[first, second\]"),
        ("environment.modules.1=x", r"environment.modules=\[first, second\]"),
        ("arguments=[a", "never closed"),
        ("tags={a: b, a: c}", "a is given twice"),
        ("a=.nan", "not a number"),
        ("a=b\0", "NUL"),
        ("tags=", "tags: expected keys and values, found nothing"),
        ("resources.nodes=two", 'resources.nodes: expected a whole number, found the text "two"'),
        ("resources.nods=2", "resources.nods: unknown key: did you mean resources.nodes"),
        ("resources={nodes: -1}", "resources.nodes: expected a whole number of at least 1, found -1"),
    ],
)
def test_overrides_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_run_config(_run(tmp_path, "tags: {x: y}\n"), overrides=[text])
    assert [problem.where for problem in caught.value.problems] == ["--set"]


def test_problems_of_overrides_flags_and_file_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_run_config(
            _run(tmp_path, "tagz: {}\n"),
            overrides=["nodes", "resources.nodes=0"],
            flags={"resources.cpus_per_task": 0},
        )
    where = [problem.where for problem in caught.value.problems]
    assert sorted(where) == sorted(["--set", "--set", f"{tmp_path}/run.yaml:2:1", "command line"])


@pytest.mark.parametrize(
    ("short", "model"),
    [
        ("{mpi: {process_count_per_node: 4, node_count: 2}}", MpiConfiguration(4, 2)),
        ("{pytorch: {process_count: 8, node_count: 2}}", PyTorchConfiguration(None, 8, 2)),
        ("{pytorch: }", PyTorchConfiguration()),
        ("{tensorflow: {worker_count: 2, parameter_server_count: 0}}", TensorflowConfiguration(2, 0)),
        ("", None),
    ],
)
def test_the_short_form_says_the_same(tmp_path: Path, short: str, model: object) -> None:
    config = load_run_config(_run(tmp_path, f"distributed: {short}\n"))
    assert config.distributed_job_config == model
    save_run_config(config, tmp_path / "again.yaml")
    assert load_run_config(tmp_path / "again.yaml") == config


def test_what_was_loaded_in_short_is_found_again(tmp_path: Path) -> None:
    """A contradiction that comes about later still names the line."""
    config = load_run_config(_run(tmp_path, "distributed:\n  pytorch: {process_count: 8}\n"))
    with pytest.raises(ConfigError, match=r"run\.yaml:3:28: .*8 processes do not go evenly onto 3 nodes"):
        resolve_run_config(config, flags={"resources.nodes": 3})


def test_a_step_may_be_of_another_kind_than_the_rest(tmp_path: Path) -> None:
    """The short form of one layer gives way to that of another, and to the long one."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "script: train.py\ndistributed: {mpi: {node_count: 2}}\n"
        "steps:\n  one: {}\n  two: {distributed: {mpi: {process_count_per_node: 3}}}\n"
        "  three: {distributed: {pytorch: {}}}\n  four: {distributed_job_config: {type: tensorflow}}\n"
    )
    steps = load_pipeline(path).steps
    assert [steps[name].distributed_job_config for name in ("one", "two", "three", "four")] == [
        *(MpiConfiguration(node_count=2), MpiConfiguration(3, 2)),
        *(PyTorchConfiguration(), TensorflowConfiguration()),
    ]
