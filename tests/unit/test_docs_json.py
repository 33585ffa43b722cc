"""docs/json.md against what the commands really print: every key, and its type, both ways."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun.cli.main import COMMANDS
from tests.cli_help import Project, document, hpcrun, make_project, typed
from tests.cron_help import crontab_stand_in
from tests.docs_help import DOCS, ROOT, under_git

pytestmark = pytest.mark.slow

PAGE = DOCS / "json.md"
A_RUN, ERRORS = "A run", "Errors"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
Rows = dict[str, str]
"""Types by key."""


def tables() -> dict[str, Rows]:
    """The rows of each section; ``submit`` has those of a run, too."""
    found: dict[str, Rows] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        lines: list[tuple[str, str]] = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, re.MULTILINE)
        found[section.partition("\n")[0]] = dict(lines)
    found["submit"] |= found[A_RUN]
    for rows in found.values():
        for key, kind in list(rows.items()):
            if kind == "list of runs":
                rows.update({f"{key}[].{below}": what for below, what in found[A_RUN].items()})
            if kind == "list of errors":
                inner = {k.partition(".")[2]: what for k, what in found[ERRORS].items() if "." in k}
                rows.update({f"{key}[].{below}": what for below, what in inner.items()})
    return found


TABLES = tables()


def fits(value: object, kind: str) -> bool:
    if kind == "any" or (value is None and kind.endswith(" or null")):
        return True
    kind = kind.removesuffix(" or null")
    if kind == "list of texts":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == "time":
        return isinstance(value, str) and TIME.fullmatch(value) is not None
    if kind.startswith("list of "):
        kind = "list"
    kinds = {"text": str, "number": int, "true or false": bool, "object": dict, "mapping": dict, "list": list}
    return type(value) is kinds[kind]


def keys(found: dict[str, Any], rows: Rows, where: str = "") -> Iterator[str]:
    """All keys of a document, each of which has a row that says the truth about its type."""
    for name, value in found.items():
        key = f"{where}{name}"
        assert key in rows, f"{key} is not in docs/json.md"
        assert fits(value, rows[key]), f"{key}: {value!r} is not {rows[key]}"
        yield key
        if rows[key].startswith("object") and value is not None:
            yield from keys(value, rows, f"{key}.")
        elif rows[key] in ("list", "list of runs", "list of errors"):
            for item in value:
                yield from keys(item, rows, f"{key}[].")


def check(section: str, *documents: Any) -> None:
    """These documents have the keys of the section, all of them, and no others."""
    rows = TABLES[section]
    seen = {key for each in documents for key in keys(each, rows)}
    assert set(rows) - seen == set(), f"## {section}: no such keys"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Two runs of the quickstart, the first with a key, outputs and a note on its snapshot."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "quickstart", folder)
    (folder / "outputs").mkdir()
    (folder / "outputs" / "old").touch()
    monkeypatch.chdir(folder)
    typed("submit", "run.yaml", "--wait", "--key", "k", "--", "--steps", "1")
    typed("run", "--wait", "--", "bash", "-c", "exit 3", code=20)
    yield from make_project(folder)


FIRST, SECOND = "@-2", "@-1"


def test_a_run_and_what_gives_runs(project: Project) -> None:
    shown = document("show", FIRST)
    check(A_RUN, shown)
    assert shown["snapshot"]["notes"] and shown["outputs"]
    check(A_RUN, document("tag", FIRST, "a=b"), document("show", SECOND), shown)
    check("submit", document("submit", "run.yaml", "--key", "k"), document("rerun", FIRST, "--wait"))
    check("submit", json.loads(typed("run", "--wait", "--json", "--", "touch", "outputs/x")))
    check("submit --dry-run", document("submit", "run.yaml", "--dry-run"))
    check("wait", document("wait", "@quickstart:1", "@project:1", code=20))
    check("ls", document("ls"), document("ls", "--where", "steps < 5"))


def test_check(project: Project) -> None:
    """When the run would start is told by Slurm alone, and looked at on the virtual cluster."""
    found = document("check", "run.yaml", "--nodes", "2", code=3)
    seen = set(keys(found, TABLES["check"]))
    assert {key for key in TABLES["check"] if not key.startswith("start.")} == seen


def test_cancel(project: Project) -> None:
    """One run that can be asked to end, and one whose site cannot be read any more."""
    site = project.folder / "site_configs" / "mine.yaml"
    site.parent.mkdir()
    site.write_text("scheduler: {type: local}\n")
    typed("submit", project.config(project.until_let_go), "-t", "mine", "--name", "lost")
    site.write_text("scheduler: {type: lsf}\n")
    found = document("cancel", "lost", "@quickstart:1", code=3)
    site.write_text("scheduler: {type: local}\n")
    assert len(found["runs"]) == len(found["errors"]) == 1
    check("cancel", found)


def test_bringing_files_home(project: Project) -> None:
    """What sync says of runs on other machines is looked at on the virtual cluster."""
    found = document("sync", FIRST)
    assert set(keys(found, TABLES["sync"])) == {key for key in TABLES["sync"] if "[]" not in key}
    check("download", document("download", FIRST))
    assert set(keys(document("tick"), TABLES["tick"])) == {key for key in TABLES["tick"] if "[]" not in key}


def test_what_is_told_of_runs(project: Project) -> None:
    check("explain", document("explain", SECOND))
    check("logs", document("logs", FIRST), document("logs", FIRST, "--system"))
    typed("run", "--wait", "--set", "environment_variables={A: b}", "--", "true")
    Path("train.py").write_text("# another\n")
    under_git(project.folder)
    typed("run", "--wait", "--name", "other", "--", "true")
    check("diff", document("diff", FIRST, SECOND))


def test_what_runs_measured(project: Project) -> None:
    pytest.importorskip("tensorboard", reason="no tensorboard")
    point = '{"n": "x", "v": 1, "s": 2, "t": 1760000000}'
    typed("run", "--wait", "--", "bash", "-c", f"echo '{point}' > $HPCRUN_RUN_DIR/metrics/rank_000.jsonl")
    check("metrics", document("metrics", "@-1", "x"))
    check("compare", document("compare", "@-1", FIRST))
    check("tensorboard", document("tensorboard", "@-1", "--no-serve"))
    check("export", document("export", "csv", "@-1", "-o", "tables"))


def test_the_history(project: Project) -> None:
    check("archive", document("archive", SECOND), document("restore", SECOND))
    check("history rebuild", document("history", "rebuild"))
    check("history gc", document("history", "gc", "@quickstart:1"))
    (project.home(project.runs[0]) / "run.json").unlink()
    check("history verify", document("history", "verify", code=9))


def test_environments(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    check(
        "env build",
        document("env", "build", "run.yaml", "--set", f"environment.venv.python={sys.executable}"),
    )
    check("env ls", document("env", "ls"))
    check("env show", document("env", "show", "venv"))
    typed("submit", "run.yaml", "--wait", "--set", f"environment.venv.python={sys.executable}")
    check("env lock", document("env", "lock", "@-1", "-o", "lock.txt"))
    (project.folder / ".hpcrun/environments/.cache/pip").mkdir(parents=True, exist_ok=True)
    found = document("env", "gc", "--caches")
    assert set(keys(found, TABLES["env gc"])) == set(TABLES["env gc"])
    check("env rm", document("env", "rm", "venv"))


def test_sites_and_the_workspace(project: Project) -> None:
    check("site ls", document("site", "ls"))
    check("site show", document("site", "show", "example"))
    check("init", document("init"))


def test_cron(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crontab_stand_in(tmp_path, monkeypatch)
    typed("tick")
    check("cron install", document("cron", "install"))
    check("cron show", document("cron", "show"))
    check("cron remove", document("cron", "remove"))


def test_schedules(project: Project) -> None:
    typed("submit", "run.yaml", "--schedule", "0 3 * * *", "--name", "n")
    file = project.folder / ".hpcrun/schedules/n.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "done": "2026-01-01T00:00:00Z"}))
    typed("tick")
    for words in ("show", "pause", "resume"):
        check(f"schedule {words}", document("schedule", words, "n"))
    check("schedule ls", document("schedule", "ls"))
    check("schedule rm", document("schedule", "rm", "n"))


def test_errors(project: Project) -> None:
    check(
        ERRORS,
        document("submit", "run.yaml", "--set", "resources.node=2", code=3),
        document("show", "nothing", code=4),
        document("show", code=2),
    )


def test_sweeps(project: Project) -> None:
    report = """'{"n": "loss", "v": %s, "t": 1}\\n'"""
    command = (
        f"mkdir -p $HPCRUN_RUN_DIR/metrics; printf {report} $x >> $HPCRUN_RUN_DIR/metrics/rank_000.jsonl"
    )
    sweep = {"space": {"x": {"choice": [1, 2]}}, "sampling": "grid", "metric": "loss", "goal": "minimize"}
    ours = project.config(f"{command}; [ $x = 1 ]", "s.yaml", sweep={**sweep, "pass_as": "variables"})
    check("sweep start --dry-run", document("sweep", "start", ours, "--dry-run"))
    started = document("sweep", "start", ours, "--wait", "--name", "s")
    assert [*keys(started, TABLES["submit"])], "each has its row"
    status = document("sweep", "status", "s")
    check("sweep status", status, document("sweep", "stop", "s"))
    check("sweep best", document("sweep", "best", "s"))
    again = document("sweep", "retry", "s")
    check("sweep retry", {"again": again.pop("again")})
    assert again.keys() == status.keys()


def test_every_command_that_prints_json_is_on_the_page() -> None:
    """By its own section, or named at the head of another's."""
    page = PAGE.read_text()
    for name in COMMANDS:
        if "--json" in hpcrun(name, "--help").output:
            assert name in TABLES or re.search(rf"^(And|What) .*`{name}`", page, re.MULTILINE), name
    for group in ("cron", "env", "history", "schedule", "site", "sweep"):
        for name in re.findall(
            r"^  (\w+) ", hpcrun(group, "--help").output.partition("Commands:")[2], re.MULTILINE
        ):
            if "--json" in hpcrun(group, name, "--help").output:
                assert f"{group} {name}" in TABLES, f"{group} {name}"
