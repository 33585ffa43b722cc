"""A client that is killed in the middle of submitting (kill -9), for Python's -c."""

from __future__ import annotations

CRASH = """
import os, signal, sys
where, name, moment, target = sys.argv[1:]
import importlib
owner, _, attribute = name.rpartition(".")
holder = importlib.import_module(where)
for part in filter(None, owner.split(".")):
    holder = getattr(holder, part)
original = getattr(holder, attribute)
def crashing(*args, **kwargs):
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(holder, attribute, crashing)
from hpcrun import Experiment, ScriptRunConfig, Workspace
ws = Workspace.from_config()
Experiment(ws, "faulty").submit(ScriptRunConfig("src", "train.py", compute_target=target))
"""
"""Its words: the module, the name in it and the moment (before, after) of the call, and the target."""
