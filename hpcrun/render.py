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

from hpcrun.environments import Setting, environment_for
from hpcrun.errors import ConfigError, Problem, TemplateError
from hpcrun.launchers import launcher_for
from hpcrun.launchers.base import payload
from hpcrun.models.earlier import input_variable
from hpcrun.models.layout import Layout, layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import Comment, Directive, ShellText, ShellWord, argv_text, export
from hpcrun.shipped import shipped_folder
from hpcrun.units import Duration


@dataclass(frozen=True)
class Job:
    """Everything a script is rendered from. ``config`` has the site's defaults merged in already.

    ``run_dir`` is the run's folder on the target; ``setting`` what was found out there for the environment.
    ``resume_path`` is what ``resume_from`` came to be on the target, and ``inputs`` what the inputs did.
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


def render_script(job: Job, template_folders: Sequence[Path] = ()) -> str:
    """The job script's text.

    ``template_folders`` are searched before the shipped templates, first one first. Raises ConfigError
    for values that no script can carry, TemplateError for a template that does not render.
    """
    import jinja2

    name = job.site.scheduler.template or f"{job.site.scheduler.type}.sh.j2"
    try:
        context = _context(job)
    except ValueError as exc:
        raise ConfigError([Problem(str(exc))]) from exc
    try:
        text: str = _engine([str(f) for f in template_folders]).get_template(name).render(job=context)
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
    address_suffix: ShellText
    tasks_per_node: int
    processes: int
    distributed: bool
    starts_ranks: bool
    conda: bool
    hands_on: bool
    secrets: bool
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
    unfit = [path for path in (job.run_dir, *given) if apptainer is not None and any(c in path for c in ",:")]
    if unfit:
        raise ValueError(f"Apptainer cannot bind a folder with a comma or colon in its name: {unfit[0]}")
    suffix = site.scheduler.node_address_suffix
    return _Script(
        title=Comment(config.display_name or config.script or "a command"),
        run_id=ShellWord(job.run_id),
        experiment=ShellWord(job.experiment),
        target=ShellWord(job.target),
        run_dir=ShellWord(job.run_dir),
        directives=slurm_directives(job, plan) if site.scheduler.type == "slurm" else [],
        exports=[export(name, value) for name, value in variables.items()] + launcher.exports(),
        variable_names=[ShellText.trusted(name) for name in (*variables, *config.secrets)],
        modules=argv_text(modules),
        setup=[_source(lines) for lines in (site.setup, config.environment.setup) if lines],
        activate=environment.activate(),
        wrap=environment.wrap(),
        payload=payload(config, environment.python()),
        srun=launcher.srun(),
        here=launcher.here(),
        address_suffix=argv_text([suffix] if suffix else []),
        tasks_per_node=plan.tasks_per_node,
        processes=plan.processes,
        distributed=plan.kind != "single",
        starts_ranks="hpcrun_start_ranks" in str(launcher.here()),
        conda=config.environment.kind == "conda",
        hands_on=apptainer is not None and apptainer.clean_environment,
        secrets=bool(config.secrets),
        **_limits(config, site),
        inputs=[ShellText.trusted(input_variable(name)) for name in job.inputs],
    )


def _limits(config: ScriptRunConfig, site: Site) -> dict[str, Any]:
    """How long the run may run, and when it is queued again. On this machine the script itself says when a
    time limit is near (``attempt_limit``); Slurm sends a signal."""
    requeue, limit = config.requeue, time_limit(config)
    seconds = requeue.seconds if requeue else 0
    return {
        "minded": requeue is not None or config.max_run_duration_seconds is not None,
        "max_run": config.max_run_duration_seconds or 0,
        "attempt_limit": int(limit) if requeue and limit and site.scheduler.type == "local" else 0,
        "requeue": requeue is not None,
        "requeue_on": ShellWord(" ".join(requeue.on if requeue else [])),
        "requeue_max": requeue.max if requeue else 0,
        "requeue_signal": ShellText.trusted(requeue.signal_name if requeue else ""),
        "requeue_seconds": seconds,
        # What the scheduler needs for it, before the time limit itself ends the job for good.
        "requeue_patience": max(1, seconds - min(30, max(1, seconds // 4))),
        "requeue_switch": int(bool(requeue and _BY_SLURM & set(requeue.on))),
    }


_BY_SLURM = {"preempted", "node_fail"}
"""Causes after which Slurm itself queues a job again, if it may."""

_BASH_OWN = {"BASHOPTS", "BASH_VERSINFO", "EUID", "POSIXLY_CORRECT", "PPID", "SHELLOPTS", "UID"}


def _source(lines: str) -> ShellText:
    """The user's own shell lines, with Unix line ends: sbatch refuses a script that holds others."""
    return ShellText.trusted(lines.replace("\r\n", "\n").rstrip("\n"))


def _variables(job: Job) -> dict[str, str]:
    """Exported for every process; what is nearer to the user wins."""
    own = {"PYTHONUNBUFFERED": "1"}
    if job.resume_path is not None:
        own["HPCRUN_RESUME_FROM"] = job.resume_path
    if job.config.requeue is not None:
        own["HPCRUN_PREEMPT_SIGNAL"] = job.config.requeue.signal_name
    own |= {input_variable(name): path for name, path in job.inputs.items()}
    given = {
        **job.site.nccl,
        **job.site.environment_variables,
        **job.config.environment.environment_variables,
        **job.config.environment_variables,
    }
    for name in (*given, *job.config.secrets):
        if name in _BASH_OWN or name.startswith(("HPCRUN_", "hpcrun_")):
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
        Directive("nodes", plan.nodes),
        Directive("ntasks-per-node", plan.tasks_per_node),
        Directive("cpus-per-task", plan.cpus_per_task),
    ]
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
    for name, value in {**scheduler.sbatch, **asked.sbatch, **_requeue(job.config)}.items():
        if value is True:
            lines.append(Directive(name))
        elif value is not None and value is not False:
            lines.append(Directive(name, value))
    return lines


def _requeue(config: ScriptRunConfig) -> dict[str, str | bool]:
    """Options of sbatch's that a run's ``requeue`` decides on, whatever the site has them at.

    The signal goes to the script alone, which passes it on and sees what becomes of it. Where the limit is
    the run's own, the script itself says when it is near: Slurm's signal may come a minute early.
    """
    if config.requeue is None:
        return {}
    again, limit = bool(_BY_SLURM & set(config.requeue.on)), time_limit(config)
    signal = limit is None or limit != config.max_run_duration_seconds
    return {
        "requeue": again,
        "no-requeue": not again,
        "signal": f"B:{config.requeue.signal}" if signal else False,
    }


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


def time_limit(config: ScriptRunConfig) -> Duration | None:
    """What is asked of the scheduler, for each attempt: the shorter of ``resources.time`` and
    ``max_run_duration_seconds``; a run that is queued again after its time limit may take longer in all."""
    limits = [config.resources.time, config.max_run_duration_seconds]
    if limits[0] is None and config.requeue is not None and "timeout" in config.requeue.on:
        return None
    given = [Duration(limit) for limit in limits if limit is not None]
    return min(given) if given else None
