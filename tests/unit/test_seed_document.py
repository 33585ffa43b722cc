"""The Python of the document that hpcrun answers to, run with nothing but its import lines changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Run, Workspace
from tests.engine_help import source, workspace

SNIPPETS = (Path(__file__).resolve().parent.parent / "data" / "seed_snippets.txt").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", SNIPPETS, re.MULTILINE | re.DOTALL)
CURATED, USER_MANAGED = (i for i, block in enumerate(BLOCKS) if "myenv = Environment" in block)

TRAIN = """
from pathlib import Path
print("training")
Path("outputs/my_output_file").write_text("a model")
"""


class Given(dict[str, Any]):
    """Names as a notebook has them; the document says script_run_config for what it has just called src."""

    def __missing__(self, name: str) -> Any:
        if name == "script_run_config":
            return self["src"]
        raise KeyError(name)


class Target:
    """A compute target as an object with a name, as Azure ML has them."""

    name = "local"


def test_all_the_snippets_are_there() -> None:
    assert len(BLOCKS) == 6
    assert sum(block.count("from azureml.core import ") for block in BLOCKS) == 4


@pytest.mark.parametrize("target", ["local", Target()])
@pytest.mark.parametrize("left_out", [CURATED, USER_MANAGED])
def test_the_document_runs(
    left_out: int,
    target: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with workspace(tmp_path / "ws") as ws:
        monkeypatch.chdir(ws.folder)
        project = source(tmp_path / "project", train_py=TRAIN)
        given = Given(ws=ws, project_folder=str(project), my_compute_target=target)
        for i, block in enumerate(BLOCKS):
            code = block.replace("from azureml.core import ", "from hpcrun import ")
            if i != left_out:
                exec(compile(code, f"block {i}", "exec"), {}, given)
        run = given["run"]
        assert isinstance(run, Run)
        assert run.get_status() == "Completed"
        assert run.experiment.name == "my_experiment"
        assert isinstance(given["ws"], Workspace) and given["ws"].folder == ws.folder
        assert "training\n" in capsys.readouterr().out
        assert (ws.folder / "my_destination_path").read_text() == "a model"
        if given["ws"] is not ws:
            given["ws"].close()
