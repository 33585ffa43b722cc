"""``hpcrun site add`` and ``site check`` where no cluster is needed for an answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcrun.engine.doctor import file_of, is_unfinished, read_text, write_site
from hpcrun.errors import ConfigError, HpcrunError
from hpcrun.workspace import Workspace
from tests.cli_help import document, on_terminal, refused, typed

GOOD = "connection: {type: ssh, host: c}\nroot: /r\n"


def sites() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "hpcrun" / "site_configs"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("local",), "local is this machine without a scheduler"),
        (("-x", "host"), "-x"),
        (("a b", "host"), "no site can be called 'a b'"),
        (("../up", "host"), "no site can be called '../up'"),
        ((".hidden", "host"), "no site can be called"),
        (("c", "-oProxyCommand=x"), "-o"),
        (("c", "--", "-oProxyCommand=x"), "host"),
        (("c", "ho\nst"), "host"),
        (("c", "me\n@host"), "user"),
        (("c", "host", "--port", "0"), "port"),
        (("c", "host", "--jump", "-oProxyCommand=x"), "jump"),
        (("c", "host", "--ssh-config", "nowhere"), "nowhere"),
        (("c", "--user", "me"), "without a HOST there is nothing to connect to"),
    ],
)
def test_what_cannot_be_added(args: tuple[str, ...], words: str) -> None:
    """Nothing is tried, and nothing written."""
    assert words in refused("site", "add", *args, code=2)
    assert not sites().exists()


def test_a_site_that_is_there_is_not_written_over() -> None:
    sites().mkdir(parents=True)
    for name, text in (("c.yaml", GOOD), ("broken.yml", "root: [")):
        (sites() / name).write_text(text)
    said = refused("site", "add", "c", "host", code=2)
    assert "c is described already" in said and "hpcrun site check c" in said and "--force" in said
    refused("site", "add", "broken", "host", code=3)
    assert (sites() / "c.yaml").read_text() == GOOD and len(list(sites().iterdir())) == 2


def test_a_file_is_written_whole_and_only_if_it_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.yaml"
    write_site(path, GOOD)
    with pytest.raises(ConfigError):
        write_site(path, "root: [")
    with pytest.raises(ConfigError):
        write_site(path, "rooot: /x\n")
    assert path.read_text() == GOOD and [each.name for each in path.parent.iterdir()] == ["c.yaml"]
    (tmp_path / "file").touch()
    with pytest.raises(HpcrunError, match=r"cannot write .*file/c\.yaml"):
        write_site(tmp_path / "file" / "c.yaml", GOOD)


def test_which_file_it_is(tmp_path: Path) -> None:
    """The one that counts, where there are several."""
    assert file_of("c", tmp_path).name == "c.yaml"
    (tmp_path / "c.yml").touch()
    assert file_of("c", tmp_path).name == "c.yml"
    (tmp_path / "c.yaml").touch()
    assert file_of("c", tmp_path).name == "c.yaml"


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [("connection: {type: ssh, host: c}\n", True), ("description: x\n", True), (GOOD, False)],
)
def test_which_file_is_unfinished(text: str, unfinished: bool) -> None:
    assert is_unfinished(read_text("c", text)) == unfinished


def test_this_machine_is_checked_too() -> None:
    report = document("site", "check", "local")
    assert (
        report["ok"]
        and report["site"] == "local"
        and report["slurm"] is None
        and report["connection"] is None
    )
    assert typed("site", "check", "local").endswith("no problems, no warnings\n")
    assert "no scheduler" in refused("site", "check", "local", "--job", code=2)


def test_the_same_from_python(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        report = workspace.check_site("local")
    assert report.ok and report.exit_code == 0 and report.hostname == os.uname().nodename.partition(".")[0]


def test_a_site_that_nobody_knows() -> None:
    assert "no site is called nowhere" in refused("site", "check", "nowhere", code=4)


def test_a_problem_on_a_narrow_terminal() -> None:
    """Lines are folded, with their remedies; the exit code says that something is wrong."""
    sites().mkdir(parents=True)
    path = sites() / "mine.yaml"
    path.write_text("scheduler: {type: local}\nroot: /proc\nconda: {root: /no/such/conda}\n")
    shown = on_terminal("site", "check", "mine", columns=60, NO_COLOR="1")
    lines = shown.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 60 and lines[-1].endswith("2 problems, no warnings")
    assert any(line.startswith("problem  Conda: ") for line in lines)
    assert any(line.startswith("         next: ") for line in lines)
    report = document("site", "check", "mine", code=3)
    assert [each["code"] for each in report["findings"]] == ["Conda", "Root"]
    assert report["findings"][0]["path"] == "conda.root" and report["findings"][0]["where"].endswith(":3:15")
