"""Lies in a run's folder as ``hpcrun/__init__.py``, with a copy of ``tracking.py``, at the end of PYTHONPATH.

It is there for environments without hpcrun. Where the environment has one, that one takes its place: paths of
PYTHONPATH come before those of an environment. Standard library alone, Python 3.8 and later.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def make_way() -> None:
    """Let the environment's own hpcrun, if there is one, be what is imported by this name."""
    here = Path(__file__).resolve().parent.parent
    path, stand_in = sys.path[:], sys.modules.pop(__name__)
    sys.path[:] = [folder for folder in path if Path(folder).resolve() != here]
    try:
        importlib.invalidate_caches()
        found = importlib.import_module(__name__)
        if getattr(found, "__file__", None) is None:  # any folder of this name, with no program in it
            raise ImportError(__name__)
    except ImportError:
        sys.modules[__name__] = stand_in
    finally:
        sys.path[:] = path


if __name__ == "hpcrun":
    make_way()
