"""Bad configurations, and exactly what is said about each: NAME.yaml and NAME.expected.txt.

A case is added by adding the two files; with ``HPCRUN_GOLDEN=write`` the second is written.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcrun.config.load import apply_site, check_files, find_target, load_run_config
from hpcrun.config.sites import read_site
from hpcrun.errors import ConfigError

CORPUS = Path(__file__).parent / "config_corpus"
RUNS = sorted(path.stem for path in CORPUS.glob("*.yaml"))
WRITE = os.environ.get("HPCRUN_GOLDEN") == "write"
SITES = sorted(path.stem for path in (CORPUS / "sites").glob("*.yaml"))


def _everything_but_submit(path: Path) -> None:
    config = load_run_config(path)
    config = apply_site(config, find_target(config, Path()))
    problems = check_files(config)
    if problems:
        raise ConfigError(problems)


def _files() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}


def _compare(expected: Path, said: str) -> None:
    said = said.replace(str(CORPUS), "CORPUS") + "\n"
    if WRITE:
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _in_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(CORPUS)
    monkeypatch.setenv("HPCRUN_CONFIG_HOME", "/nonexistent")


@pytest.mark.parametrize("name", RUNS)
def test_a_bad_run_is_refused_with_these_words(name: str) -> None:
    before = None if WRITE else _files()
    with pytest.raises(ConfigError) as caught:
        _everything_but_submit(Path(f"{name}.yaml"))
    _compare(Path(f"{name}.expected.txt"), str(caught.value))
    assert before is None or _files() == before, "nothing may be written"


@pytest.mark.parametrize("name", SITES)
def test_a_bad_site_is_refused_with_these_words(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_site(Path(f"sites/{name}.yaml"))
    _compare(Path(f"sites/{name}.expected.txt"), str(caught.value))


@pytest.mark.parametrize("name", RUNS)
def test_every_problem_names_file_line_and_column(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _everything_but_submit(Path(f"{name}.yaml"))
    for problem in caught.value.problems:
        file, line, column = problem.where.rsplit(":", 2)
        assert Path(file).is_file() and int(line) >= 1 and int(column) >= 1
