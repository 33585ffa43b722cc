"""An environment made for its own sake, as the Python API has it."""

from __future__ import annotations

from pathlib import Path

from hpcrun.config.load import apply_site
from hpcrun.engine import builds
from hpcrun.engine.environments import begin_job
from hpcrun.engine.prepare import builder_of, environment_of, told
from hpcrun.history.paths import WorkspacePaths
from hpcrun.models.environment import Environment
from hpcrun.models.run import ScriptRunConfig
from hpcrun.targets import Targets


def build_for(environment: Environment, name: str, paths: WorkspacePaths, targets: Targets) -> str:
    """Make ``environment`` on the target ``name`` and wait for it: the folder it lies in, empty if hpcrun
    makes nothing. What a job makes is not waited for: the job's name then. Raises ConfigError, CommandError.
    """
    target = targets.get(name)
    config = ScriptRunConfig(Path.cwd(), command=["true"], compute_target=name, environment=environment)
    config = apply_site(config, target.site, target.partition)
    made = environment_of(config, target, paths)
    if made is None:
        return ""
    known, script = told(made, target.site), builder_of(made, target.site, config)
    if known["job"]:
        stand = begin_job(target.shell, known, script)
        if stand.word == "job":
            return f"job {stand.folder}"
    if not known["job"] or stand.word != "ready":
        stand = builds.build(target, known, script, lambda said: True)
    return f"{made.root}/{stand.folder}"
