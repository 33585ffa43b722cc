"""Which sites there are, which file counts, and what a broken one does not spoil."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun.config.sites import (
    find_site,
    find_sites,
    list_sites,
    load_site,
    read_site,
    split_target,
    user_folder,
)
from hpcrun.errors import ConfigError, NotFoundError
from hpcrun.models.site import Site
from hpcrun.shipped import shipped_folder

ROOT = Path(__file__).resolve().parents[2]


def _put(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_shipped_sites_are_there_and_whole(tmp_path: Path) -> None:
    listed = {entry.source.name: entry for entry in list_sites(tmp_path)}
    assert set(listed) >= {"local", "example"}
    assert all(entry.problem is None and entry.site is not None for entry in listed.values())
    local = load_site("local", None)
    assert local.scheduler.type == "local" and local == Site(**local.model_dump())


def test_the_example_shows_every_section_and_every_key() -> None:
    text = (ROOT / "site_configs" / "example.yaml").read_text()
    site = load_site("example", None)
    assert site.model_fields_set == set(Site.model_fields)
    assert "imaginary" in text
    left_out = {"max_running", "template"}  # of local sites, and of those who write templates
    assert set(type(site.scheduler).model_fields) - site.scheduler.model_fields_set == left_out


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "site_configs").glob("*.yaml")) if p.stem not in {"example", "local"}],
    ids=lambda path: path.stem,
)
def test_a_shipped_cluster_names_a_source_beside_each_value(path: Path) -> None:
    head, _, body = path.read_text().partition("\nname: ")
    sources = re.findall(r"(?m)^# \[(\d)\] \S", head)
    assert re.search(r"looked up on \d{4}-\d\d-\d\d", head) and head.count("https://") >= len(sources) - 1 > 0
    assert set(re.findall(r"\[(\d)\]", head + body)) == set(sources)
    for line in body.splitlines()[2:]:
        value = re.match(r" *[\w-]+: *[^#\s]", line)
        assert not value or re.search(r"# (\[\d\]|no source)", line), f"{path.name}: {line.strip()}"


def test_later_folders_win_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, home = tmp_path / "w", tmp_path / "home"
    monkeypatch.setenv("HPCRUN_CONFIG_HOME", str(home))
    _put(home / "site_configs", "local.yaml", "description: mine\n")
    assert load_site("local", workspace) == Site(name="local", description="mine")
    _put(home / "site_configs", "a.yaml", "description: mine\ndefault_account: x\n")
    _put(workspace / "site_configs", "a.yml", "description: beside\n")
    assert load_site("a", workspace) == Site(name="a", description="beside")
    _put(workspace / ".hpcrun" / "site_configs", "a.yaml", "description: inside\n")
    _put(workspace / ".hpcrun" / "site_configs", "a.yml", "description: short\n")
    assert load_site("a", workspace) == Site(name="a", description="inside")
    assert load_site("a", None) == Site(name="a", description="mine", default_account="x")
    layers = {name: source.layer for name, source in find_sites(workspace).items()}
    assert layers["a"] == "workspace" and layers["local"] == "user" and layers["example"] == "shipped"


def test_files_that_are_no_sites_are_passed_over(tmp_path: Path) -> None:
    for name in (".hidden.yaml", "notes.txt", "x.yaml~"):
        _put(tmp_path / "site_configs", name, "name: x\n")
    assert set(find_sites(tmp_path)) == set(find_sites(None))


def test_the_user_s_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HPCRUN_CONFIG_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "hpcrun"
    assert user_folder({"HPCRUN_CONFIG_HOME": "/x"}) == Path("/x")


def test_an_unknown_site_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no site is called lcoal: did you mean local") as caught:
        find_site("lcoal", tmp_path)
    assert "example, frontier, iris, jureca, local" in str(caught.value) and "lcoal.yaml" in str(caught.value)


def test_a_broken_site_is_listed_with_its_first_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _put(tmp_path / "site_configs", "bad.yaml", "tiem: 1\nscheduler: {type: x}\n")
    _put(tmp_path / "site_configs", "gone.yaml", "a: b\n")
    (tmp_path / "site_configs" / "gone.yaml").unlink()
    (tmp_path / "site_configs" / "gone.yaml").symlink_to("nowhere")
    _put(tmp_path / "site_configs", "bad name.yaml", "{}\n")
    listed = {entry.source.name: entry for entry in list_sites(tmp_path)}
    assert str(listed["bad"].problem).startswith("site_configs/bad.yaml:1:1: tiem: unknown key")
    assert "no such file" in str(listed["gone"].problem)
    assert "name: expected letters" in str(listed["bad name"].problem)
    assert listed["local"].problem is None


def test_the_name_is_the_file_s(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("description: x\n")
    assert read_site(path).name == "a"
    path.write_text("name: b\nroot: x\n")
    with pytest.raises(ConfigError) as caught:
        read_site(path)
    assert [problem.path for problem in caught.value.problems] == ["name", "root"]


def test_a_partition_with_nothing_below_it_is_a_partition(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("partitions:\n  gpu:\n  cpu: {max_time: 1h}\nmodules:\n")
    site = read_site(path)
    assert list(site.partitions) == ["gpu", "cpu"] and site.modules == []


@pytest.mark.parametrize(
    ("target", "parts"),
    [("a", ("a", None)), ("a:b", ("a", "b")), ("a:", ("a", None)), ("a:b,c", ("a", "b,c"))],
)
def test_targets(target: str, parts: tuple[str, str | None]) -> None:
    assert split_target(target) == parts


def test_names_are_listed_without_pydantic() -> None:
    code = (
        "import sys; from hpcrun.config.sites import find_sites; assert 'local' in find_sites(None); "
        "sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_shipped_folders_of_a_checkout_and_of_a_wheel(tmp_path: Path) -> None:
    assert shipped_folder("site_configs") == ROOT / "site_configs"
    package = tmp_path / "hpcrun"
    (package / "_shipped" / "templates").mkdir(parents=True)
    assert shipped_folder("templates", package=package) == package / "_shipped" / "templates"
    assert shipped_folder("site_configs", package=package) == tmp_path / "site_configs"
