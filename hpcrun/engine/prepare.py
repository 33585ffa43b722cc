"""Everything about a submission that can be known before anything is written: checks and the script.

The code is the source directory as it will be when the run is submitted, or that of an earlier run, which
the snapshot store has: then the source directory is not looked at, and need not be there any more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpcrun.config.load import (
    apply_site,
    check_files,
    check_names,
    config_tree,
    dump_run_config,
    find_target,
)
from hpcrun.config.validate import place_of
from hpcrun.engine.before import Before
from hpcrun.engine.code import Code
from hpcrun.engine.earlier import Earlier
from hpcrun.engine.notify import wishes
from hpcrun.engine.registered import Registered
from hpcrun.engine.tracking import speaks_of_hpcrun
from hpcrun.environments import recipe_of
from hpcrun.errors import ConfigError, Problem, SnapshotError
from hpcrun.functions.call import call_of
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import is_experiment, is_run_id, new_run_id
from hpcrun.models.layout import Layout, layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.places import secrets
from hpcrun.places.base import Given
from hpcrun.quoting import Secret
from hpcrun.render import Job, Made, render_script, time_limit
from hpcrun.render_build import CALLER, asks, job_directives, render_builder
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.snapshot_git import Store
from hpcrun.targets import Target, Targets


@dataclass(frozen=True)
class Plan:
    """A submission, ready but for its snapshot: ``script`` is byte for byte what will be submitted.

    ``config`` has the site's defaults in it, ``asked_text`` is without them. ``inputs`` are paths on the
    target, by name. ``before`` are the runs that it comes after, ``given`` what it has of those on other
    machines. ``code`` is an earlier run's, or None. ``job`` is what the script was rendered from.
    ``call`` is that of a function, pickled. ``builder`` is what makes the environment ``made``, where hpcrun
    does.
    """

    run_id: str
    experiment: str
    config: ScriptRunConfig
    config_text: str
    asked_text: str
    resume_path: str | None
    inputs: dict[str, str]
    before: Mapping[Before, tuple[str | int, ...]]
    given: Sequence[Given]
    code: Code | None
    target: Target
    layout: Layout
    run_dir: str
    script: str
    secrets: dict[str, Secret]
    job: Job
    call: bytes | None = None
    made: Made | None = None
    builder: str = ""

    @property
    def time_limit(self) -> int | None:
        limit = time_limit(self.config)
        return None if limit is None else int(limit)


def prepare(
    config: ScriptRunConfig,
    paths: WorkspacePaths,
    targets: Targets,
    *,
    experiment: str | None = None,
    run_id: str | None = None,
    earlier: Earlier | None = None,
    code: Code | None = None,
    packed: bool = False,
    ask: bool = True,
) -> Plan:
    """Check a configuration against its target and render its script; writes nothing.

    A site on another machine is asked where its runs lie, unless that is known, or ``ask`` is False.
    ``packed``: it is to be one of several in a job. Raises ConfigError with all that is wrong, SnapshotError
    where ``code`` is no longer in the store.
    """
    asked, target = _asked(config, paths, targets)
    call = call_of(asked)
    config = _checked(asked, target, None if code is None else file_names(code, paths))
    values = _secrets(config)
    name, run_id = _names(config, experiment, run_id)
    run_dir = target.place.run_dir(paths.run(run_id).folder, run_id, ask=ask)
    made = environment_of(config, target, paths, code, ask=ask)
    here, earlier = target.place.here(), earlier or Earlier()
    resume_path, inputs = earlier.found(config, target.place, run_dir, paths)
    job = Job(
        run_id, name, config.compute_target, run_dir, config, target.site,
        default_python=here.python, conda_root=here.conda_root, resume_path=resume_path, inputs=inputs,
        made=made, tracking=_tracking(config, paths, code), packed=packed,
    )  # fmt: skip
    return Plan(
        run_id=run_id,
        experiment=name,
        config=config,
        config_text=dump_run_config(config),
        asked_text=dump_run_config(asked),
        resume_path=resume_path,
        inputs=inputs,
        before=earlier.before_on(target.place),
        given=earlier.given(target.place),
        code=code,
        target=target,
        layout=layout(config),
        run_dir=run_dir,
        script=render_script(job, template_folders(paths)),
        secrets=values,
        job=job,
        call=call,
        made=made,
        builder="" if made is None else builder_of(made, target.site, config),
    )


def _asked(
    config: ScriptRunConfig, paths: WorkspacePaths, targets: Targets
) -> tuple[ScriptRunConfig, Target]:
    """The configuration with the environment that it names, and its target."""
    config = Registered(paths.registered).resolve(config)
    find_target(config, paths.folder.parent)  # for the error's place in the file
    return config, targets.get(config.compute_target)


def _names(config: ScriptRunConfig, experiment: str | None, run_id: str | None) -> tuple[str, str]:
    """The experiment's, and the run's."""
    name = experiment or config.experiment or default_experiment(config)
    run_id = run_id or new_run_id(name)
    if not is_run_id(run_id):
        raise ConfigError([Problem(f"not a run id: {run_id!r}", hint="Leave it out, and hpcrun makes one.")])
    return name, run_id


def environment_of(
    config: ScriptRunConfig,
    target: Target,
    paths: WorkspacePaths,
    code: Code | None = None,
    *,
    ask: bool = True,
) -> Made | None:
    """The environment that is to be made for ``config``, if any. Raises ConfigError, SnapshotError."""
    config = Registered(paths.registered).resolve(config)
    store = SnapshotStore(paths.snapshots, LocalShell())
    source = Path(config.source_directory)

    def read(name: str) -> bytes:
        name = os.path.normpath(name)
        if code is None or name.startswith(("/", "..")):
            return (source / name).read_bytes()
        return store.read(code.snapshot.id, name)

    try:
        recipe = recipe_of(config.environment, read, target.site)
    except ConfigError as exc:
        raise placed(config, exc) from None
    if recipe is None:
        return None
    if target.place.host is None:
        # Where the target shares this machine's files, what is installed beside hpcrun can help.
        recipe = replace(recipe, variables={**recipe.variables, "HPCRUN_PYTHON": sys.executable})
    elif recipe.kind == "conda" and find_spec("rattler") is not None:
        # Where the target has nothing to make it with, it is made here: see hpcrun.engine.bringing.
        recipe = replace(recipe, variables={**recipe.variables, CALLER: "1"})
    return Made(recipe, target.place.environments(paths.folder, ask=ask))


def builder_of(made: Made, site: Site, config: ScriptRunConfig) -> str:
    """The script that makes it; a job's, if such are to make the site's environments. Raises ConfigError."""
    if not by_job(site):
        return render_builder(made, site)
    builds, account = site.environments, config.resources.account
    asked = ScriptRunConfig(config.source_directory, command="true", resources=builds.resources)
    own = apply_site(asked, site, builds.partition)
    if own.resources.account is None and account is not None:
        own.resources = own.resources.model_copy(update={"account": account})
    return render_builder(made, site, job_directives(made, own, site))


def told(made: Made, site: Site) -> dict[str, Any]:
    """What is written down of it."""
    recipe = made.recipe
    known: dict[str, Any] = {"kind": recipe.kind, "key": recipe.key, "name": recipe.name}
    known |= {"title": recipe.title, "root": made.root, "job": by_job(site)}
    return {**known, "asks": True} if known["job"] and asks(recipe) else known


def by_job(site: Site) -> bool:
    """Whether the site's environments are made by jobs."""
    return site.environments.build == "job" and site.scheduler.type == "slurm"


def _secrets(config: ScriptRunConfig) -> dict[str, Secret]:
    """The values of the secrets; and there is the address of a webhook, if it is one."""
    try:
        wishes(config.notify)
        return secrets.resolve(config.secrets, Path(config.source_directory))
    except ConfigError as exc:
        raise placed(config, exc) from None


def placed(config: ScriptRunConfig, error: ConfigError) -> ConfigError:
    """The same, with the places of what it speaks of, where it names none: another file's."""
    tree = config_tree(config)
    places = {p.path: str(place_of(tree, tuple(p.path.split(".")))) for p in error.problems}
    return ConfigError([p._replace(where=p.where or places[p.path]) for p in error.problems])


def _tracking(config: ScriptRunConfig, paths: WorkspacePaths, code: Code | None) -> bool:
    tree = None if code is None else code.snapshot.id
    return speaks_of_hpcrun(config, Store(paths.snapshots, LocalShell()), tree)


def file_names(code: Code, paths: WorkspacePaths) -> frozenset[str]:
    """The names of a snapshot's files. Raises SnapshotError if it is not there any more."""
    if code.names is not None:
        return code.names
    store = SnapshotStore(paths.snapshots, LocalShell())
    if not store.contains(code.snapshot.id):
        raise SnapshotError(
            f"the snapshot {code.snapshot.id[:12]} is not in {paths.snapshots}",
            hint="Run the source directory as it is now: hpcrun rerun --fresh",
        )
    return frozenset(store.file_names(code.snapshot.id))


def _checked(config: ScriptRunConfig, target: Target, names: frozenset[str] | None) -> ScriptRunConfig:
    """The configuration with the site's defaults. Raises ConfigError with all that is wrong, at once.

    ``names`` are those of a snapshot's files; None for a source directory that is yet to be captured.
    """

    def check(config: ScriptRunConfig) -> list[Problem]:
        return check_files(config) if names is None else check_names(config, names)

    problems = check(config)
    try:
        config = apply_site(config.model_copy(deep=True), target.site, target.partition)
    except ConfigError as exc:
        problems = list(dict.fromkeys([*exc.problems, *problems]))
    if not problems:
        problems = check(config) or fits_here(config, target.site)
    if problems:
        raise ConfigError(problems)
    return config


def template_folders(paths: WorkspacePaths) -> Sequence[Path]:
    """Where templates are looked up before the shipped ones: the workspace's, then the user's."""
    from hpcrun.config.sites import user_folder

    return [paths.templates, user_folder() / "templates"]


def default_experiment(config: ScriptRunConfig) -> str:
    """Named after the source folder, where nothing else was said."""
    name = "".join(
        c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in Path(config.source_directory).name
    )
    name = name.lstrip("_-")[:100]
    return name if is_experiment(name) else "default"


def fits_here(config: ScriptRunConfig, site: Site) -> list[Problem]:
    if site.scheduler.type != "local":
        return []
    plan = layout(config)
    if plan.nodes > 1:
        key = "distributed_job_config.node_count" if config.distributed_job_config else "resources.nodes"
        return [
            Problem(
                f"{plan.nodes} nodes were asked for, and {site.name} is one machine",
                path=key,
                hint="Name a cluster with -t TARGET (see hpcrun site ls), or ask for one node.",
            )
        ]
    return []
