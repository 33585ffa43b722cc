"""The JSON Schemas say what the loader takes, and are the ones in docs/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hpcrun.config import reference
from hpcrun.config.load import load_run_config
from hpcrun.config.pipeline import load_pipeline
from hpcrun.config.schema import main, pipeline_schema, run_schema, site_schema, text_of
from hpcrun.config.sites import read_site
from hpcrun.config.validate import all_keys, plain
from hpcrun.config.yamltree import read_file
from hpcrun.errors import ConfigError
from hpcrun.models.resources import Resources
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from tests.cli_help import typed
from tests.docs_help import DOCS, ROOT, blocks

RUN = jsonschema.Draft202012Validator(run_schema())
PIPELINE = jsonschema.Draft202012Validator(pipeline_schema())
SITE = jsonschema.Draft202012Validator(site_schema())

GOOD = [
    "script: a.py",
    "script: a.py\ncommand: null\nsource_directory: null\nenvironment:\nresources:\narguments:\ntags:\n",
    "command: echo\nscript: ~\narguments: []",
    "command: [echo, a]",
    "script: a.py\narguments: --a 'b c'",
    "script: a.py\narguments: [1, 1.5, true, x]",
    "script: a.py\nresources: {time: 90, memory: 1.5, gpus_per_node: 2}",
    "script: a.py\nresources: {time: 1:30:00, memory: 4G, gpus_per_node: a100:2, nodes: null}",
    "script: a.py\nresources: {gpus_per_node: {type: a100, count: 2}, memory_per_gpu: 1G}",
    "script: a.py\nresources: {sbatch: {mail-type: END, nice: 5, requeue: true, x: null}}",
    "script: a.py\nenvironment_variables: {A: 1, B: 1.10, C: x}\ntags: {a b: 2}",
    "script: a.py\ndistributed_job_config: {type: pytorch, communication_backend: Nccl, process_count: 4}",
    "script: a.py\ndistributed_job_config: {type: mpi, node_count: 4}",
    "script: a.py\ndistributed: {mpi: {node_count: 4}}\ndistributed_job_config: null",
    "script: a.py\ndistributed: {pytorch: }",
    "script: a.py\ndistributed:",
    "script: a.py\ndistributed: {tensorflow: {worker_count: 2, parameter_server_count: 0}}",
    "script: a.py\nenvironment: {apptainer: {image: a.sif}, conda: null, modules: [a]}",
    "script: a.py\ncompute_target: a:b\nexperiment: x\nmax_run_duration_seconds: 5\nresume_from: abc",
    "script: a.py\nafter: [a, any:@-1]\ninputs: {data: a/outputs/x, other: /data}",
]
BAD = [
    "tags: {}",
    "script: a.py\ncommand: b",
    "command: b\narguments: [c]",
    "script: 5",
    "script: a.py\ntiem: 5",
    "script: a.py\narguments: [[a]]",
    "script: a.py\nresources: {nodes: -1}",
    "script: a.py\nresources: {nodes: '2'}",
    "script: a.py\nresources: {gpus_per_node: a100}",
    "script: a.py\nresources: {memory: 1G, memory_per_cpu: 1G}",
    "script: a.py\nresources: {sbatch: {job-name: x}}",
    "script: a.py\nresources: {sbatch: {--mem: x}}",
    "script: a.py\nenvironment: {conda: {name: a}, apptainer: {image: b}}",
    "script: a.py\nenvironment: {apptainer: {}}",
    "script: a.py\nenvironment_variables: {A-B: x}",
    "script: a.py\nenvironment_variables: {A: true}",
    "script: a.py\ndistributed_job_config: {process_count: 4}",
    "script: a.py\ndistributed_job_config: {type: mpi, process_count: 4}",
    "script: a.py\ndistributed_job_config: {type: pytorch, communication_backend: mpi}",
    "script: a.py\ndistributed: {mpi: {}, pytorch: {}}",
    "script: a.py\ndistributed: {}",
    "script: a.py\ndistributed: {mpi: {type: mpi}}",
    "script: a.py\ndistributed: {mpi: {process_count: 2}}",
    "script: a.py\ndistributed: {mpi: {}}\ndistributed_job_config: {type: mpi}",
    "script: a.py\ndistributed: mpi",
    "script: a.py\ncompute_target: a b",
    "script: a.py\nafter: a",
    "script: a.py\ninputs: {a-b: /x}",
    "script: a.py\nexperiment: a b",
]


def _data(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return plain(read_file(path)[0])


@pytest.mark.parametrize("text", GOOD)
def test_what_the_loader_takes_is_valid(tmp_path: Path, text: str) -> None:
    data = _data(tmp_path, text)
    load_run_config(tmp_path / "x.yaml")
    RUN.validate(data)


@pytest.mark.parametrize("text", BAD)
def test_typical_mistakes_are_not(tmp_path: Path, text: str) -> None:
    data = _data(tmp_path, text)
    with pytest.raises(ConfigError):
        load_run_config(tmp_path / "x.yaml")
    assert not RUN.is_valid(data)


def test_shipped_sites_are_valid_and_mistakes_are_not(tmp_path: Path) -> None:
    for path in sorted((ROOT / "site_configs").glob("*.yaml")):
        read_site(path)
        SITE.validate(plain(read_file(path)[0]))
    for text in ("tiem: 1", "scheduler: {type: pbs}", "partitions: {a: {max_node: 1}}", "nccl: {A-B: x}"):
        assert not SITE.is_valid(_data(tmp_path, text))


def test_examples_are_valid() -> None:
    for path in sorted((ROOT / "examples").rglob("run.yaml")):
        load_run_config(path)
        RUN.validate(plain(read_file(path)[0]))


def test_pipelines(tmp_path: Path) -> None:
    for path in sorted((ROOT / "examples").rglob("pipeline.yaml")):
        load_pipeline(path)
        PIPELINE.validate(plain(read_file(path)[0]))
    PIPELINE.validate(_data(tmp_path, "script: a.py\nsteps: {a: , b: {needs: [a], arguments: [1]}}"))
    load_pipeline(tmp_path / "x.yaml")
    for text in ("steps: {}", "steps: [a]", "steps: {1a: {script: x}}", "steps: {a: {scirpt: x}}"):
        data = _data(tmp_path, text)
        with pytest.raises(ConfigError):
            load_pipeline(tmp_path / "x.yaml")
        assert not PIPELINE.is_valid(data), text


@pytest.mark.parametrize("schema", [run_schema(), pipeline_schema(), site_schema()])
def test_the_schemas_are_schemas(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].startswith("urn:hpcrun:schema:") and schema["title"] and schema["description"]
    assert ">>>" not in text_of(schema) and "``" not in text_of(schema)


def test_the_files_in_docs_are_these(tmp_path: Path) -> None:
    main(str(tmp_path))
    for name in ("run.schema.json", "pipeline.schema.json", "site.schema.json"):
        assert (ROOT / "docs" / "schema" / name).read_bytes() == (tmp_path / name).read_bytes(), (
            "run python -m hpcrun.config.schema"
        )


def test_the_reference_in_docs_is_this(tmp_path: Path) -> None:
    reference.main(str(tmp_path))
    for name in ("run.yaml.md", "site.md"):
        assert (DOCS / "reference" / name).read_bytes() == (tmp_path / name).read_bytes(), (
            "run python -m hpcrun.config.reference"
        )


def _names(tree: dict[str, Any]) -> set[str]:
    return set(tree) | {name for below in tree.values() for name in _names(below)}


def test_the_reference_has_every_key() -> None:
    for model, page in ((ScriptRunConfig, reference.run_page()), (Site, reference.site_page())):
        elsewhere = _names(all_keys(Resources)) if model is Site else set()
        assert _names(all_keys(model)) - elsewhere <= set(
            re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)
        )


REFERENCE_ROW = re.compile(r"^\| `(\w+)` \|.* \| `(.*)` \|$")


def _examples_of_the_reference(page: str) -> Iterator[tuple[str, str]]:
    """Each row's section and example."""
    section = ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif row := REFERENCE_ROW.match(line):
            assert row[2].startswith(f"{row[1]}: "), line
            yield section, row[2]


# What a section's examples need beside them to be a whole.
NEEDED = {
    "notify": "mail: me",
    "function": "name: estimate.inside",
    "environment.apptainer": "image: x.sif",
    "distributed_job_config: mpi": "type: mpi",
    "distributed_job_config: pytorch": "type: pytorch",
    "distributed_job_config: tensorflow": "type: tensorflow",
    "resources.gpus_per_node": "count: 1",
}
NEEDED_BESIDE = {
    "min_nodes": ["launcher: torchrun", "max_nodes: 4"],
    "max_nodes": ["launcher: torchrun", "min_nodes: 2"],
    "max_restarts": ["launcher: torchrun"],
}


def _whole(section: str, example: str) -> str:
    """A document that holds the example where its section is."""
    key, lines = example.partition(":")[0], [example]
    if section in NEEDED and key not in (*NEEDED[section].split(":"), "definition"):
        lines.append(NEEDED[section])
    if section.startswith("distributed_job_config"):
        lines += NEEDED_BESIDE.get(key, [])
    path = section.replace("NAME", "gpu").partition(":")[0].split(".")
    for name in [] if section in ("run.yaml", "NAME.yaml") else reversed(path):
        lines = [f"{name}:", *(f"  {line}" for line in lines)]
    return "\n".join(lines) + "\n"


def test_every_example_of_the_run_reference_loads(tmp_path: Path) -> None:
    for number, (section, example) in enumerate(_examples_of_the_reference(reference.run_page())):
        other = example.startswith(("script:", "command:", "function:")) and section != "notify"
        other = other or section == "function"
        runs = "" if other else "script: train.py\n"
        path = tmp_path / f"{number}.yaml"
        path.write_text(runs + _whole(section, example))
        load_run_config(path)
        RUN.validate(plain(read_file(path)[0]))


def test_every_example_of_the_site_reference_loads(tmp_path: Path) -> None:
    for section, example in _examples_of_the_reference(reference.site_page()):
        path = tmp_path / "snellius.yaml"
        path.write_text(_whole(section, example))
        read_site(path)
        SITE.validate(plain(read_file(path)[0]))


def test_the_examples_of_the_documentation_load(tmp_path: Path) -> None:
    kinds = set()
    for number, block in enumerate(blocks(DOCS / "configuration.md", "yaml")):
        path = tmp_path / str(number) / Path(block.name).name
        path.parent.mkdir()
        path.write_text(block.text)
        if block.name == "run.yaml":
            load_run_config(path)
        elif block.name.startswith("site_configs/"):
            read_site(path)
        kinds.add(block.name)
    assert kinds == {"run.yaml", "wrong.yaml", "site_configs/snellius.yaml"}


def test_the_errors_of_the_documentation_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, said = (block for block in blocks(DOCS / "configuration.md") if block.name == "wrong.yaml")
    Path("wrong.yaml").write_text(wrong.text)
    with pytest.raises(ConfigError) as caught:
        load_run_config(Path("wrong.yaml"))
    assert str(caught.value) + "\n" == said.text


def test_the_overrides_of_the_documentation_are_taken(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("script: a.py\nresources: {time: 1h}\n")
    (tmp_path / "a.py").touch()
    (block,) = (block for block in blocks(DOCS / "configuration.md") if block.name == "--set")
    assert block.text.count("\n") >= 5
    for line in block.text.splitlines():
        typed("submit", "run.yaml", "--dry-run", "-t", "iris", *shlex.split(line))


def test_the_sections_that_the_page_on_runs_shows_are_valid(tmp_path: Path) -> None:
    text = (DOCS / "runs.md").read_text()
    found = 0
    for key in ("environment", "distributed_job_config"):
        rows = text.partition(f"| `{key}:` |")[2].partition("\n\n")[0].splitlines()
        for value in re.findall(r"`([^`]+)`", "".join(row.split("|")[1] for row in rows if row)):
            path = tmp_path / f"{found}.yaml"
            path.write_text(f"script: a.py\n{key}: {value if value[0] == '{' else '{' + value + '}'}\n")
            load_run_config(path)
            found += 1
    assert found >= 7
