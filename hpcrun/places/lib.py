"""What a run brings along for environments that have no hpcrun: the one module that scripts use."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hpcrun.history.record import RunRecord

FOLDER = "lib"
"""In the run's folder; job.sh has it at the end of PYTHONPATH."""

_HERE = Path(__file__).resolve().parent


def wanted(record: RunRecord) -> bool:
    """Whether the run's script looks for it."""
    return f"$HPCRUN_RUN_DIR/{FOLDER}" in str(record.submission["script"])


@cache
def files() -> dict[str, str]:
    """Texts by path below :data:`FOLDER`."""
    return {
        "hpcrun/tracking.py": (_HERE.parent / "tracking.py").read_text(encoding="utf-8"),
        "hpcrun/__init__.py": (_HERE / "stand_in.py").read_text(encoding="utf-8"),
    }
