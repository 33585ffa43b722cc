"""The job script: a strict Jinja2 template filled with nothing but safe words.

Templates are looked up in the workspace's ``templates/`` folder, then in the user's, then in the shipped
one; ``hpcrun/NAME`` always is the shipped one, so that an override can extend what it overrides:

    {% extends "hpcrun/slurm.sh.j2" %}
    {% block environment %}
    {{ super() }}
    export MY_SITE_VARIABLE=1
    {% endblock %}

Blocks: directives, identity, scheduler, rank, payload, claim, environment, launch, wait, end
(documented in docs/templates.md).
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcrun.environments import Recipe, Setting, environment_for
from hpcrun.errors import ConfigError, Problem, TemplateError
from hpcrun.launchers import launcher_for
from hpcrun.launchers.base import payload
from hpcrun.launchers.farming import farm_text
from hpcrun.launchers.limits import limits, mail_options, requeue_options
from hpcrun.launchers.limits import time_limit as time_limit
from hpcrun.launchers.mpi import by_mpirun
from hpcrun.launchers.pytorch import torchrun_line
from hpcrun.launchers.world import PROGRAM, world_line
from hpcrun.models.distributed import TensorflowConfiguration
from hpcrun.models.earlier import input_variable
from hpcrun.models.layout import Layout, layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import Comment, Directive, ShellText, ShellWord, argv_text, export
from hpcrun.shipped import shipped_folder


@dataclass(frozen=True)
class Job:
    """Everything a script is rendered from. ``config`` has the site's defaults merged in already.

    ``run_dir`` is the run's folder on the target; ``setting`` what was found out there for the environment.
    ``resume_path`` is what ``resume_from`` came to be on the target, and ``inputs`` what the inputs did.
    ``tracking``: the code speaks of hpcrun, which the environment may not have. ``packed``: it is one of
    several in a job, which has started a process for it. ``pack``: it is such a job, and this the script that
    each trial begins with.
    """

    run_id: str
    experiment: str
    target: str
    run_dir: str
    config: ScriptRunConfig
    site: Site
    default_python: str | None = None
    conda_root: str | None = None
    resume_path: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    made: Made | None = None
    tracking: bool = False
    packed: bool = False
    pack: str = ""


@dataclass(frozen=True)
class Made:
    """An environment that hpcrun makes: ``folder`` without the machine's name behind it."""

    recipe: Recipe
    root: str

    @property
    def folder(self) -> str:
        return f"{self.root}/{self.recipe.name}"


def render_script(job: Job, template_folders: Sequence[Path] = ()) -> str:
    """The job script's text.

    ``template_folders`` are searched before the shipped templates, first one first. Raises ConfigError
    for values that no script can carry, TemplateError for a template that does not render.
    """
    name = job.site.scheduler.template or f"{job.site.scheduler.type}.sh.j2"
    try:
        context = _context(job)
    except ValueError as exc:
        raise ConfigError([Problem(str(exc))]) from exc
    return fill_template(name, template_folders, job=context)


def fill_template(name: str, template_folders: Sequence[Path], **context: object) -> str:
    """A template's text. Raises TemplateError for one that does not render."""
    import jinja2

    try:
        text: str = _engine([str(f) for f in template_folders]).get_template(name).render(**context)
    except jinja2.TemplateSyntaxError as exc:
        raise TemplateError(f"{exc.filename or exc.name}:{exc.lineno}: {exc.message}") from exc
    except jinja2.TemplateNotFound as exc:
        places = ", ".join(str(f) for f in template_folders) or "(no folder of yours)"
        raise TemplateError(
            f"there is no template {exc.name!r}", hint=f"Looked in: {places}, and the shipped ones."
        ) from exc
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError, OSError) as exc:
        raise TemplateError(f"{_place(exc) or name}: {exc}") from exc
    return text


def _place(error: Exception) -> str | None:
    """``file:line`` of the innermost template that an error came from (Jinja2 puts them on the traceback)."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f"{f.filename}:{f.lineno}" for f in reversed(frames) if f.filename.endswith(".j2")), None)


_ENGINES: dict[tuple[str, ...], Any] = {}


def _engine(folders: list[str]) -> Any:
    """The Jinja2 environment for these folders; kept, since compiling templates is what costs."""
    import jinja2

    key = tuple(folders)
    if key not in _ENGINES:
        shipped = jinja2.FileSystemLoader(str(shipped_folder("templates")))
        _ENGINES[key] = jinja2.Environment(
            loader=jinja2.ChoiceLoader(
                [
                    jinja2.PrefixLoader({"hpcrun": shipped}),
                    jinja2.FileSystemLoader(folders),
                    shipped,
                ]
            ),
            undefined=jinja2.StrictUndefined,
            # Given the context, it is not asked while a template is compiled, where literals come escaped.
            finalize=jinja2.pass_context(_only_safe),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
    return _ENGINES[key]


def _only_safe(context: object, value: object) -> object:
    """What a template may put into a script. ``super()`` and blocks come as Markup: they passed before."""
    import jinja2
    from markupsafe import Markup

    if isinstance(value, (Markup, jinja2.Undefined)):
        return value
    if isinstance(value, (ShellWord, ShellText, Directive, Comment)):
        return Markup(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"not safe in a script: {value!r} (only quoted words and whole numbers may be put there)")


@dataclass(frozen=True)
class _Script:
    """What templates see as ``job``."""

    title: Comment
    run_id: ShellWord
    experiment: ShellWord
    target: ShellWord
    run_dir: ShellWord
    directives: list[Directive]
    exports: list[ShellText]
    variable_names: list[ShellText]
    modules: ShellText
    setup: list[ShellText]
    activate: ShellText
    wrap: ShellText
    payload: ShellText
    srun: ShellText
    here: ShellText
    torchrun: ShellText
    node_wrap: ShellText
    elastic: bool
    address_suffix: ShellText
    nodes: int
    tasks_per_node: int
    processes: int
    workers: int
    distributed: bool
    mpi: bool
    mpi_name: ShellText
    mpi_world: ShellText
    world_program: ShellWord
    python: ShellWord
    mpirun: bool
    starts_ranks: bool
    conda: bool
    contained: bool
    venv: bool
    made: ShellText
    hands_on: bool
    secrets: bool
    lib: bool
    minded: bool
    max_run: int
    attempt_limit: int
    requeue: bool
    requeue_on: ShellWord
    requeue_max: int
    requeue_signal: ShellText
    requeue_seconds: int
    requeue_patience: int
    requeue_switch: int
    inputs: list[ShellText]
    packed: bool
    pack: ShellText
    farm: ShellText


def _context(job: Job) -> _Script:
    config, site = job.config, job.site
    plan = layout(config)
    given = [path for path in (job.resume_path, *job.inputs.values()) if path is not None]
    setting = Setting(site, plan.gpus_per_node, job.default_python, job.conda_root, tuple(given))
    environment = environment_for(config.environment, setting)
    launcher = launcher_for(config, plan, site)
    variables = _variables(job)
    modules = [*site.modules, *config.environment.modules]
    apptainer = config.environment.apptainer
    if apptainer is not None:
        _check_binds([job.run_dir, *given])
    suffix = site.scheduler.node_address_suffix
    torchrun, dist = plan.starter == "torchrun", config.distributed_job_config
    return _Script(
        title=Comment(config.display_name or config.script or _title(config)),
        run_id=ShellWord(job.run_id),
        experiment=ShellWord(job.experiment),
        target=ShellWord(job.target),
        run_dir=ShellWord(job.run_dir),
        directives=slurm_directives(job, plan) if site.scheduler.type == "slurm" else [],
        exports=[export(name, value) for name, value in variables.items()]
        + ([_TO_FILE] if _PARAMETERS in variables else [])
        + launcher.exports(),
        variable_names=[ShellText.trusted(name) for name in (*variables, *config.secrets)],
        modules=argv_text(modules),
        setup=[_source(lines) for lines in (site.setup, config.environment.setup) if lines],
        activate=environment.activate(),
        # What torchrun starts is in its container already.
        wrap=ShellText("exec") if torchrun else environment.wrap(),
        payload=payload(config, environment.python()),
        srun=launcher.srun(),
        here=launcher.here(),
        torchrun=torchrun_line(config, plan, site, environment.python()) if torchrun else ShellText(""),
        node_wrap=environment.wrap(),
        elastic=plan.least_nodes is not None and site.scheduler.type == "slurm",
        address_suffix=argv_text([suffix] if suffix else []),
        nodes=plan.nodes,
        tasks_per_node=plan.tasks_per_node,
        processes=plan.processes,
        workers=dist.worker_count if isinstance(dist, TensorflowConfiguration) else 0,
        distributed=plan.kind != "single",
        mpi=plan.kind == "mpi" and (config.script or "").endswith(".py"),
        mpi_name=argv_text([site.scheduler.mpi]),
        mpi_world=world_line(config, plan, site) or ShellText(""),
        world_program=ShellWord(PROGRAM),
        python=environment.python(),
        mpirun=plan.kind == "mpi" and by_mpirun(site),
        starts_ranks="hpcrun_start_ranks" in str(launcher.here()),
        conda=config.environment.kind == "conda",
        contained=apptainer is not None,
        venv=config.environment.kind == "venv",
        made=_use(job.made),
        hands_on=apptainer is not None and apptainer.clean_environment,
        secrets=bool(config.secrets),
        lib=job.tracking or config.requeue is not None or config.function is not None,
        **limits(config, site),
        inputs=[ShellText.trusted(input_variable(name)) for name in job.inputs],
        **_packs(job),
    )


def _check_binds(paths: list[str]) -> None:
    for path in paths:
        if any(mark in path for mark in ",:"):
            raise ValueError(f"Apptainer cannot bind a folder with a comma or colon in its name: {path}")


def _packs(job: Job) -> dict[str, Any]:
    """What templates find of a job that several runs share."""
    farm = ShellText.trusted(farm_text() if job.pack else "")
    return {"packed": job.packed, "pack": ShellText.trusted(job.pack), "farm": farm}


def _title(config: ScriptRunConfig) -> str:
    return "a command" if config.function is None else f"the function {config.function.name}"


def _use(made: Made | None) -> ShellText:
    if made is None:
        return ShellText("")
    words = ShellWord(made.folder), ShellWord(made.recipe.title)
    return ShellText("hpcrun_use_environment {} {}", *words)


_BASH_OWN = {"BASHOPTS", "BASH_VERSINFO", "EUID", "POSIXLY_CORRECT", "PPID", "SHELLOPTS", "UID"}


def _source(lines: str) -> ShellText:
    """The user's own shell lines, with Unix line ends: sbatch refuses a script that holds others."""
    return ShellText.trusted(lines.replace("\r\n", "\n").rstrip("\n"))


# What a trial of a sweep with pass_as: file is told: JSON, which becomes a file of the run's.
_PARAMETERS = "HPCRUN_PARAMETERS"
_TO_FILE = ShellText('printf "%s\\n" "$HPCRUN_PARAMETERS" >"$HPCRUN_PARAMETERS_FILE"')


def _variables(job: Job) -> dict[str, str]:
    """Exported for every process; what is nearer to the user wins."""
    own = {"PYTHONUNBUFFERED": "1"}
    if job.resume_path is not None:
        own["HPCRUN_RESUME_FROM"] = job.resume_path
    if job.config.requeue is not None:
        own["HPCRUN_PREEMPT_SIGNAL"] = job.config.requeue.signal_name
    if _PARAMETERS in job.config.environment_variables:
        own[f"{_PARAMETERS}_FILE"] = f"{job.run_dir}/parameters.json"
    own |= {input_variable(name): path for name, path in job.inputs.items()}
    given = {
        **job.site.nccl,
        **job.site.environment_variables,
        **job.config.environment.environment_variables,
        **job.config.environment_variables,
    }
    for name in (*given, *job.config.secrets):
        if name in _BASH_OWN or (name.startswith(("HPCRUN_", "hpcrun_")) and name != _PARAMETERS):
            owner = "bash's" if name in _BASH_OWN else "hpcrun's"
            key = "environment_variables" if name in given else "secrets"
            raise ValueError(f"{key}: {name} is {owner} own, and cannot be set for a run")
    return {**own, **given}


def slurm_directives(job: Job, plan: Layout) -> list[Directive]:
    """The ``#SBATCH`` lines, in a fixed order."""
    asked, scheduler = job.config.resources, job.site.scheduler
    if "\\" in job.run_dir:
        raise ValueError(
            f"Slurm cannot write logs below a folder with a backslash in its name: {job.run_dir}"
        )
    lines = [
        Directive("job-name", job.run_id),
        Directive("chdir", job.run_dir),
        Directive("output", job.run_dir.replace("%", "%%") + "/system_logs/job.txt"),
        Directive("open-mode", "append"),
        Directive("nodes", plan.nodes if plan.least_nodes is None else f"{plan.least_nodes}-{plan.nodes}"),
        Directive("ntasks-per-node", plan.started_per_node),
        Directive("cpus-per-task", plan.cpus_of_started),
    ]
    if plan.least_nodes is not None:
        lines.append(Directive("no-kill"))  # torchrun goes on with the nodes that are left
    lines += _memory(job)
    if plan.gpus_per_node:
        gpus = str(asked.gpus_per_node)
        by_gres = scheduler.gpu_directive == "gres"
        lines.append(Directive("gres", f"gpu:{gpus}") if by_gres else Directive("gpus-per-node", gpus))
    limit = time_limit(job.config)
    if limit is not None:
        lines.append(Directive("time", limit.slurm))
    for name in ("partition", "account", "qos", "constraint", "reservation"):
        if getattr(asked, name) is not None:
            lines.append(Directive(name, getattr(asked, name)))
    if asked.exclusive:
        lines.append(Directive("exclusive"))
    own = {**requeue_options(job.config), **mail_options(job.config)}
    for name, value in {**scheduler.sbatch, **asked.sbatch, **own}.items():
        if value is True:
            lines.append(Directive(name))
        elif value is not None and value is not False:
            lines.append(Directive(name, value))
    return lines


def _memory(job: Job) -> list[Directive]:
    asked = job.config.resources
    if job.site.scheduler.memory_directive == "none":
        return []
    for name, value in (
        ("mem", asked.memory),
        ("mem-per-cpu", asked.memory_per_cpu),
        ("mem-per-gpu", asked.memory_per_gpu),
    ):
        if value is not None:
            return [Directive(name, value.slurm)]
    return []
