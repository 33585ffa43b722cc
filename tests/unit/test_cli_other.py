"""``hpcrun site``, ``schema`` and ``init``; and the words and tables that people read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from hpcrun.cli import text
from hpcrun.cli.errors import describe, report
from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.states import RunState
from tests import cli_help
from tests.cli_help import Project, document, hpcrun, on_terminal, refused, typed

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


@pytest.fixture
def cluster(project: Project) -> Path:
    folder = project.folder / "site_configs"
    folder.mkdir()
    path = folder / "cluster.yaml"
    path.write_text(
        "description: Mine\nscheduler: {type: slurm}\npartitions: {gpu: {max_time: 2d}, cpu: {}}\n"
    )
    return path


def test_site_ls(cluster: Path) -> None:
    (cluster.parent / "broken.yaml").write_text("scheduler: {type: lsf}\n")
    lines = typed("site", "ls").splitlines()
    assert lines[0].split() == ["NAME", "REACHED", "SCHEDULER", "PARTITIONS", "FROM", "DESCRIPTION"]
    cells = {line.split()[0]: line.split(maxsplit=5) for line in lines[1:]}
    assert cells["cluster"] == ["cluster", "here", "slurm", "gpu,cpu", "workspace", "Mine"]
    assert cells["local"][:5] == ["local", "here", "local", "-", "shipped"]
    assert cells["iris"][3] == "gpu,batch,bigmem,+1"
    assert "site_configs/broken.yaml:1:" in " ".join(cells["broken"])
    sites = {site["name"]: site for site in document("site", "ls")["sites"]}
    assert sites["cluster"]["partitions"] == ["gpu", "cpu"]
    assert sites["broken"]["problem"]
    assert sites["cluster"]["path"] == str(cluster)


def test_site_ls_sees_the_workspaces_own_from_below(
    cluster: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("init")
    below = project.folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert "cluster" in typed("site", "ls")


def test_site_show(cluster: Path) -> None:
    head, _, body = typed("site", "show", "cluster").partition("\n")
    assert head == f"# {cluster} (workspace)"
    assert yaml.safe_load(body) == {
        "name": "cluster",
        "description": "Mine",
        "connection": {"type": "here"},
        "scheduler": {"type": "slurm"},
        "partitions": {"gpu": {"max_time": "2-00:00:00"}, "cpu": {}},
    }
    assert typed("site", "show", "cluster:gpu").startswith(head)
    found = document("site", "show", "cluster")
    assert (found["path"], found["layer"]) == (str(cluster), "workspace")
    assert found["site"]["partitions"]["gpu"]["max_time"] == "2-00:00:00"
    assert "did you mean cluster?" in refused("site", "show", "clutser", code=4)


def test_site_show_of_a_broken_file(cluster: Path) -> None:
    cluster.write_text("scheduler: {type: lsf}\nnope: 1\n")
    message = refused("site", "show", "cluster", code=3)
    assert "site_configs/cluster.yaml:1:" in message
    assert "site_configs/cluster.yaml:2:" in message


def test_site_alone_explains_itself() -> None:
    assert "show" in typed("site")


def test_schema(project: Project) -> None:
    for kind in ("run", "site"):
        made = json.loads(typed("schema", kind))
        assert made["$id"] == f"urn:hpcrun:schema:{kind}"
        assert made == document("schema", kind)
    typed("schema", "--write", "there")
    assert json.loads((project.folder / "there" / "site.schema.json").read_text()) == made


def test_init(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is now a workspace" in typed("init")
    assert (project.folder / ".hpcrun" / "history.db").is_file()
    assert "is already a workspace" in typed("init")
    inner = project.folder / "deep" / "inner"
    result = hpcrun("init", "deep/inner")
    assert result.exit_code == 0
    assert f"used the workspace {project.folder}" in result.stderr
    assert document("init", str(inner)) == {"workspace": str(inner), "new": False}
    assert document("--workspace", "third", "init") == {
        "workspace": str(project.folder / "third"),
        "new": True,
    }


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("2026-01-31T11:59:58.123Z", "2s"),
        ("2026-01-31T11:00:00Z", "1h"),
        ("2026-01-01T12:00:00Z", "30d"),
        ("2026-01-31T12:00:05Z", "0s"),
        (None, ""),
        ("no time", ""),
    ],
)
def test_age(created: str | None, expected: str) -> None:
    assert text.age(created, NOW) == expected


def test_duration() -> None:
    assert text.duration("2026-01-31T10:00:00Z", "2026-01-31T11:02:03Z") == "1h 2m"
    assert text.duration("2026-01-31T11:59:00Z", None, NOW) == "1m"
    assert text.duration(None, None) == ""


def test_state_text() -> None:
    assert text.state_text(RunState.FAILED, "OutOfMemory") == "Failed (OutOfMemory)"
    assert text.state_text(RunState.CANCELED, "Canceled") == "Canceled"
    assert text.state_text(RunState.QUEUED, "(Re\x1bsources)") == "Queued ((Re\ufffdsources))"


def test_site_ls_is_fitted_to_a_terminal(project: Project) -> None:
    shown = on_terminal("site", "ls", columns=60).splitlines()
    assert any(line.startswith("lumi") and line.endswith("…") for line in shown)
    assert max(map(len, shown)) == 60
    assert "…" not in typed("site", "ls")


def test_plain_table_cuts_nothing() -> None:
    wide = "x" * 300
    assert text.plain_table(("A", "B"), [("1", ""), (wide, "2")]).splitlines()[1:] == ["1", f"{wide}  2"]


def test_an_error_with_a_hint_and_one_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(NotFoundError("no run", hint="see\nhere")) == 4
    assert capsys.readouterr().err == "hpcrun: error: no run\n  see\n  here\n"
    assert report(NotFoundError("no run")) == 4
    assert capsys.readouterr().err == "hpcrun: error: no run\n"


def test_all_problems_of_a_configuration_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigError([Problem("bad", "f.yaml:1:2", "a.b", "do this"), Problem("worse", "--set")])
    assert report(error) == 3
    assert capsys.readouterr().err == (
        "hpcrun: error: 2 problems:\n  f.yaml:1:2: a.b: bad\n      do this\n  --set: worse\n"
    )
    assert describe(error)["problems"][1] == {"message": "worse", "where": "--set", "path": "", "hint": ""}
