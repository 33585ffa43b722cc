"""Stand-ins for the programs that hpcrun cron tells of itself, on machines that have none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

STAND_IN = """\
#!/bin/sh
# As Debian's: -l, -r, and - for what comes on stdin.
file=$HOME/the-crontab
case $1 in
  -l) [ -e "$file" ] || { echo "no crontab for $(id -un)" >&2; exit 1; }; cat "$file" ;;
  -r) rm "$file" ;;
  -) cat >"$file" ;;
  *) exit 2 ;;
esac
"""


def crontab_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A crontab as Debian's; the file that it keeps the table in."""
    stand_in(tmp_path, monkeypatch, "crontab", STAND_IN)
    return Path.home() / "the-crontab"


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A program, first on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
