"""Configurations meant to exhaust memory, time or the stack are refused, with their place (fault 38)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_help import PATIENCE

MEMORY = 600 * 1024 * 1024
"""Bytes of address space; hpcrun without any configuration takes a third of it."""

CPU = 60
"""Seconds: a runaway, not a slow machine, takes so many."""

MB = 1024 * 1024
BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 30))

HOSTILE = {
    "ten megabytes of text": ("command: '" + "x" * 10 * MB + "'\n", "larger than 1 MB"),
    "ten megabytes of keys": ("".join(f"k{i}: 1\n" for i in range(900_000)), "larger than 1 MB"),
    "ten megabytes of nothing": ("\n" * 10 * MB, "larger than 1 MB"),
    "zeros": ("\0" * 10 * MB, "larger than 1 MB"),
    "a megabyte of keys": ("".join(f"k{i}: 1\n" for i in range(90_000)), "more than 20,000 values"),
    "a megabyte of one key": ("k: 1\n" * 200_000, "is given twice"),
    "a megabyte of brackets": ("a: " + "[" * 999_990, "nested more than 50 levels deep"),
    "a megabyte of braces": ("a: " + "{a: " * 249_990, "nested more than 50 levels deep"),
    "a megabyte of dashes": ("a:\n  " + "- " * 499_000 + "x", "nested more than 50 levels deep"),
    "a megabyte of indentation": (
        "".join(f"{' ' * i}k:\n" for i in range(1400)),
        "nested more than 50 levels",
    ),
    "a megabyte of one line": ("command: " + "x" * 999_000 + "\nnodes: {}\n", "unknown key"),
    "a megabyte of quotes": ('a: "' + '\\"' * 499_000, "run.yaml:1:"),
    "a megabyte of tags": ("a: " + "!!python/object/apply:os.system " * 31_000, "run.yaml:1:4"),
    "a megabyte of anchors": ("a: " + "&a " * 330_000, "run.yaml:1:"),
    "a bomb": (BOMB, "run.yaml:1:5"),
    "a bomb of merges": (MERGES, "run.yaml:1:5"),
    "an endless number": ("resources: {nodes: " + "9" * 900_000 + "}\n", "run.yaml:1:"),
    "an endless fraction": ("resources: {nodes: 0." + "1" * 900_000 + "}\n", "run.yaml:1:20"),
    "an endless time": ("resources: {time: " + "1:" * 400_000 + "1}\n", "run.yaml:1:19"),
}


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def submit(*options: str) -> subprocess.CompletedProcess[str]:
    """Submit run.yaml in a process that may use little, the threads of libraries left out."""
    return subprocess.run(
        [sys.executable, "-m", "hpcrun", "submit", "run.yaml", *options],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_within_bounds(name: str, tmp_path: Path) -> None:
    text, words = HOSTILE[name]
    (tmp_path / "run.yaml").write_text(text)
    done = submit()
    assert done.returncode == 3, done.stderr[-2000:]
    assert words in done.stderr and "run.yaml" in done.stderr
    assert "should not" not in done.stderr and len(done.stderr) < 20_000
    assert not (tmp_path / ".hpcrun").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ten megabytes of keys", "a megabyte of brackets", "a bomb"])
def test_so_is_a_site(name: str, tmp_path: Path) -> None:
    text, words = HOSTILE[name]
    sites = tmp_path / ".hpcrun" / "site_configs"
    sites.mkdir(parents=True)
    (sites / "big.yaml").write_text(text)
    (tmp_path / "run.yaml").write_text("command: 'true'\n")
    done = submit("-t", "big")
    assert done.returncode == 3, done.stderr[-2000:]
    assert words.replace("run.yaml", "big.yaml") in done.stderr


@pytest.mark.slow
def test_so_is_what_is_set_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("command: 'true'\n")
    for override in ("arguments=" + "[" * 100_000, ".".join("a" * 40_000) + "=1"):
        done = submit("--set", override)
        assert done.returncode == 3, done.stderr[-2000:]
        assert "--set" in done.stderr and len(done.stderr) < 20_000
