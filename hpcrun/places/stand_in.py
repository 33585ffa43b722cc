"""Lies in a run's folder as ``hpcrun/__init__.py``, beside copies of ``tracking*.py``, at PYTHONPATH's end.

It is there for environments without hpcrun. Where the environment has one, that one takes its place: paths of
PYTHONPATH come before those of an environment. Where it has another package of this name, that one does too,
and gets ``Run`` and ``tracking`` as well. Standard library alone, Python 3.8 and later.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def __getattr__(name: str) -> Any:
    if name == "Run":
        from hpcrun.tracking_run import Run

        return Run
    raise AttributeError(
        f"module 'hpcrun' has no {name!r} here: this environment has no hpcrun, and the run brings along "
        "no more than Run and tracking"
    )


def make_way() -> None:
    """Let the environment's own hpcrun, if there is one, be what is imported by this name."""
    here = Path(__file__).resolve().parent
    path, stand_in = sys.path[:], sys.modules.pop(__name__)
    sys.path[:] = [folder for folder in path if Path(folder).resolve() != here.parent]
    try:
        importlib.invalidate_caches()
        found: Any = importlib.import_module(__name__)
        if getattr(found, "__file__", None) is None:  # any folder of this name, with no program in it
            raise ImportError(__name__)
    except Exception:  # whatever lies there does not get in the way of a run
        sys.modules[__name__] = stand_in
    else:
        if not hasattr(found, "__path__") or importlib.util.find_spec(f"{__name__}.tracking") is None:
            help_out(found, here)
    finally:
        sys.path[:] = path


def help_out(found: Any, here: Path) -> None:
    """Give a package that only has the name what scripts look for."""
    found.__path__ = [*getattr(found, "__path__", []), str(here)]
    if not hasattr(found, "Run"):
        found.Run = importlib.import_module(f"{__name__}.tracking_run").Run


if __name__ == "hpcrun":
    make_way()
