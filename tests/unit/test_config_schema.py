"""The JSON Schemas say what the loader takes, and are the ones in docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hpcrun.config.load import load_run_config
from hpcrun.config.schema import main, run_schema, site_schema, text_of
from hpcrun.config.sites import read_site
from hpcrun.config.validate import all_keys, plain
from hpcrun.config.yamltree import read_file
from hpcrun.errors import ConfigError
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site

ROOT = Path(__file__).resolve().parents[2]
RUN = jsonschema.Draft202012Validator(run_schema())
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
    "script: a.py\nenvironment: {apptainer: {image: a.sif}, conda: null, modules: [a]}",
    "script: a.py\ncompute_target: a:b\nexperiment: x\nmax_run_duration_seconds: 5\nresume_from: abc",
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
    "script: a.py\ncompute_target: a b",
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


@pytest.mark.parametrize("schema", [run_schema(), site_schema()])
def test_the_schemas_are_schemas(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].startswith("urn:hpcrun:schema:") and schema["title"] and schema["description"]
    assert ">>>" not in text_of(schema) and "``" not in text_of(schema)


def test_the_files_in_docs_are_these(tmp_path: Path) -> None:
    main(str(tmp_path))
    for name in ("run.schema.json", "site.schema.json"):
        assert (ROOT / "docs" / "schema" / name).read_bytes() == (tmp_path / name).read_bytes(), (
            "run python -m hpcrun.config.schema"
        )


def _names(tree: dict[str, Any]) -> set[str]:
    return set(tree) | {name for below in tree.values() for name in _names(below)}


def test_the_documentation_names_every_key() -> None:
    said = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "configuration.md").read_text()))
    assert _names(all_keys(ScriptRunConfig)) | _names(all_keys(Site)) <= said


def test_the_examples_of_the_documentation_load(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for index, block in enumerate(re.findall(r"```yaml run.yaml\n(.*?)```", text, re.DOTALL)):
        path = tmp_path / f"run{index}.yaml"
        path.write_text(block)
        load_run_config(path)
    sites = re.findall(r"```yaml site_configs/(\w+).yaml\n(.*?)```", text, re.DOTALL)
    assert sites
    for name, block in sites:
        path = tmp_path / f"{name}.yaml"
        path.write_text(block)
        read_site(path)


def test_the_errors_of_the_documentation_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "configuration.md").read_text()
    wrong = re.search(r"```yaml wrong.yaml\n(.*?)```", text, re.DOTALL)
    said = re.search(r"```text wrong.yaml\n(.*?)```", text, re.DOTALL)
    assert wrong is not None and said is not None
    Path("wrong.yaml").write_text(wrong[1])
    with pytest.raises(ConfigError) as caught:
        load_run_config(Path("wrong.yaml"))
    assert str(caught.value) + "\n" == said[1]
