"""Everything that can be found wrong with a run before it is submitted, all of it at once.

Nothing is changed: no run, no snapshot, no job. A check that cannot be made says so in a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpcrun.check.findings import ORDER, Finding, Findings, Level, Report, unreadable
from hpcrun.check.limits import (
    Asked,
    Excess,
    asked_of,
    chosen,
    described,
    excesses,
    over_description,
    without_gpus,
)
from hpcrun.config.load import apply_site, check_files, find_target
from hpcrun.config.pipeline import Pipeline, in_order
from hpcrun.engine.check_here import check_environment, check_machine, check_script, git_is_here
from hpcrun.engine.check_slurm import (
    ask_partitions,
    ask_qos,
    check_associations,
    check_partitions,
    check_qos,
    check_test_only,
)
from hpcrun.engine.check_there import check_there, who_is_there
from hpcrun.engine.earlier import Earlier, Step, earlier_runs
from hpcrun.engine.notice_ways import no_mail
from hpcrun.engine.prepare import Plan, default_experiment, fits_here, prepare
from hpcrun.engine.registered import Registered
from hpcrun.engine.sweep import first_trial, prepare_sweep
from hpcrun.errors import ConfigError, HpcrunError, SnapshotError, TemplateError
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import new_run_id
from hpcrun.history.store import History
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.models.sweep import SweepConfig
from hpcrun.schedulers.slurmlimits import SlurmPartition
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.targets import Target, Targets


def check_any(
    config: ScriptRunConfig | Pipeline | SweepConfig,
    paths: WorkspacePaths,
    targets: Targets,
    history: History | None = None,
) -> Report:
    """What would go wrong if ``config`` were submitted now. ``history`` is None where there is none yet."""
    if isinstance(config, Pipeline):
        return check_pipeline(config, paths, targets, history)
    if isinstance(config, SweepConfig):
        return check_sweep(config, paths, targets, history)
    return check(config, paths, targets, history)


def check(
    config: ScriptRunConfig,
    paths: WorkspacePaths,
    targets: Targets,
    history: History | None = None,
    steps: Mapping[str, Step] | None = None,
) -> Report:
    """The same of one run; ``steps`` are the others of its pipeline that come before it."""
    try:
        config, unknown = Registered(paths.registered).resolve(config), []
    except ConfigError as error:
        unknown = error.problems
    found = Findings(config)
    found.add_problems(unknown, "Environment")
    target = _target(found, config, paths, targets)
    complete = None if target is None else _completed(found, config, target)
    _source(found, config, target)
    earlier = _history(found, config, history, steps)
    if target is not None and complete is not None:
        found.config = complete
        # Folders, conda and Slurm of a cluster are known on its own machines alone.
        user = who_is_there(found, target)
        plan = _plan(found, config, paths, targets, earlier) if user else None
        _site(found, complete, target, plan, user)
    return found.report()


def _target(
    found: Findings, config: ScriptRunConfig, paths: WorkspacePaths, targets: Targets
) -> Target | None:
    try:
        find_target(config, paths.folder.parent)
        return targets.get(config.compute_target)
    except ConfigError as error:
        found.add_problems(error.problems, "Target")
    return None


def _completed(found: Findings, config: ScriptRunConfig, target: Target) -> ScriptRunConfig | None:
    """The configuration with the site's defaults; None where the two do not go together."""
    try:
        complete = apply_site(config.model_copy(deep=True), target.site, target.partition)
    except ConfigError as error:
        for problem in error.problems:
            of_partition = problem.path in ("compute_target", "resources.partition")
            found.add_problems([problem], "Partition" if of_partition else "Config")
        return None
    for problem in fits_here(complete, target.site):
        found.add("problem", "Nodes", problem.message, tuple(problem.path.split(".")), next=problem.hint)
    return complete


def _source(found: Findings, config: ScriptRunConfig, target: Target | None) -> None:
    """The source directory: the script in it, and the snapshot that would be taken of it."""
    shell = LocalShell()
    for problem in check_files(config):
        found.add_problems([problem], "Source" if problem.path == "source_directory" else "Script")
    if found.has("Source"):
        return
    if not found.has("Script"):
        check_script(found, config, shell)
    if not git_is_here(found):
        return
    try:
        notes = SnapshotStore.foresee(Path(config.source_directory), shell)
    except SnapshotError as error:
        first, *rest = error.message.splitlines()
        key = ("source_directory",)
        found.add("problem", "Snapshot", first, key, details=tuple(rest), next=error.hint or "")
        return
    for note in notes:
        found.add("note", "Snapshot", note)


def check_pipeline(
    pipeline: Pipeline, paths: WorkspacePaths, targets: Targets, history: History | None = None
) -> Report:
    """The same of all steps of a pipeline, in their order; what holds for several is told of the first."""
    known: dict[str, Step] = {}
    findings: list[Finding] = []
    reports = []
    for name in in_order(pipeline.steps):
        config = pipeline.steps[name]
        report = check(config, paths, targets, history, known)
        told = {replace(each, step="") for each in findings}
        findings += [replace(each, step=name) for each in report.findings if each not in told]
        reports.append(report)
        known[name] = _as_step(name, config, paths, targets)
    names = {report.target for report in reports}
    ordered = sorted(findings, key=lambda each: ORDER.index(each.level))
    return Report(reports[0].target if len(names) == 1 else "several", tuple(ordered))


def check_sweep(
    sweep: SweepConfig, paths: WorkspacePaths, targets: Targets, history: History | None = None
) -> Report:
    """The same of a sweep: of its space, and of its first trial, which stands for all."""
    first, found = sweep.run_config, tuple[Finding, ...]()
    try:
        first = first_trial(sweep, history)
    except ConfigError as error:
        found = unreadable(error).findings
    except HpcrunError as error:  # such as for a sampling whose library is not there
        found = (Finding("problem", "Program", error.message, path="sweep.sampling", next=error.hint or ""),)
    if first.notify is not None and (words := no_mail({"mail": first.notify.mail})):
        found += (Finding("warning", "Program", words, path="notify.mail"),)
    report = check(first, paths, targets, history)
    if sweep.pack is not None and report.ok and not found:
        try:
            prepare_sweep(sweep, paths, targets, history, ask=False)
        except ConfigError as error:  # of a pack more is asked than of a run
            found = unreadable(error).findings
    known = {(each.message, each.path) for each in report.findings}
    found = tuple(each for each in found if (each.message, each.path) not in known)
    ordered = sorted(found + report.findings, key=lambda each: ORDER.index(each.level))
    return replace(report, findings=tuple(ordered))


def _as_step(name: str, config: ScriptRunConfig, paths: WorkspacePaths, targets: Targets) -> Step:
    """A run that nobody has submitted."""
    run_id = new_run_id("step")
    try:
        place = targets.get(config.compute_target).place
        run_dir = place.run_dir(paths.run(run_id).folder, run_id, ask=False)
    except HpcrunError:  # which was said of that step
        return Step(run_id, f"/{name}", None)
    return Step(run_id, run_dir, place.host)


def _history(
    found: Findings,
    config: ScriptRunConfig,
    history: History | None,
    steps: Mapping[str, Step] | None,
) -> Earlier | None:
    """What only the history knows: earlier runs, and whether the experiment is archived."""
    try:
        if history is not None:
            history.check_open(config.experiment or default_experiment(config))
    except HpcrunError as error:
        found.add("problem", "Experiment", error.message, ("experiment",), next=error.hint or "")
    try:
        return earlier_runs(history, config, steps)
    except ConfigError as error:
        found.add_problems(error.problems, "Resume")
    except HpcrunError as error:
        found.add("problem", "Resume", error.message, ("resume_from",), next=error.hint or "")
    return None


def _plan(
    found: Findings, config: ScriptRunConfig, paths: WorkspacePaths, targets: Targets, earlier: Earlier | None
) -> Plan | None:
    """The script that would be submitted; None where it cannot be rendered."""
    if found.has("Source", "Script", "Nodes", "Resume") or config.environment.is_reference:
        return None  # that is why, and was said
    try:
        return prepare(config, paths, targets, earlier=earlier)
    except ConfigError as error:
        for problem in error.problems:
            found.add_problems(
                [problem], "Environment" if problem.path.startswith("environment") else "Config"
            )
    except TemplateError as error:
        found.add("problem", "Template", error.message, next=error.hint or "")
    except HpcrunError as error:
        found.add("problem", "Config", error.message, next=error.hint or "")
    return None


def _site(
    found: Findings, config: ScriptRunConfig, target: Target, plan: Plan | None, user: str | None
) -> None:
    """The run beside its site: this machine, or a cluster as it is described and as Slurm has it; ``user`` is
    who one is there, None where the site is not to be asked."""
    asked = asked_of(config, target.site)
    if target.site.scheduler.type == "local":
        check_environment(found, config, target.site)
        check_machine(found, asked, config, target.site)
        return
    partitions = ask_partitions(found, target.shell) if user else {}
    _description(found, config, target.site, asked, partitions)
    if user is None:
        return
    if target.remote is not None:
        check_there(found, config, target.site, target.remote)
    else:
        check_environment(found, config, target.site)
    _slurm(found, config, target, asked, partitions, plan, user)


def _description(
    found: Findings, config: ScriptRunConfig, site: Site, asked: Asked, partitions: dict[str, SlurmPartition]
) -> None:
    """What the site's file says of the partition. Where Slurm says otherwise, Slurm is right."""
    for name, excess, hint in over_description(config, site):
        if name not in partitions:
            # Some sites have a QOS that lifts these two; which, only Slurm tells.
            lifted = config.resources.qos is not None and excess.code in ("Time", "Nodes")
            level: Level = "warning" if lifted else "problem"
            found.add(level, excess.code, excess.message, asked.keys[excess.code], next=hint)
        elif not _has(excess, excesses(asked, partitions[name].limits)):
            message = f"{site.name}'s file is behind: Slurm takes it, and the file says {excess.message}"
            found.add("note", "Description", message, asked.keys[excess.code])
    if partitions:
        return
    for name in chosen(config):
        others = without_gpus(asked, name, described(site))
        if others:
            message = f"{site.name}'s file knows of no GPUs in partition {name}"
            hint = f"Partitions with GPUs: {', '.join(others)}"
            found.add("warning", "GPUs", message, asked.keys["GPUs"], next=hint)


def _has(excess: Excess, among: Sequence[Excess]) -> bool:
    return any(other.code == excess.code for other in among)


def _slurm(
    found: Findings,
    config: ScriptRunConfig,
    target: Target,
    asked: Asked,
    partitions: dict[str, SlurmPartition],
    plan: Plan | None,
    user: str,
) -> None:
    res, shell, accounting = config.resources, target.shell, target.site.scheduler.accounting
    qos = ask_qos(res, shell) if accounting else None
    if qos is not None:
        check_qos(found, asked, qos)
    there = check_partitions(found, asked, res, partitions, qos) if partitions else []
    over = found.has("Time", "Nodes", "CPUs", "Memory", "GPUs", "Account", "QOS", "Partition")
    accepted = False
    if plan is None:
        message = "Slurm was not asked about a start: there is no script yet"
        found.add("note", "Unchecked", message, next="Mend the problems above, and check again.")
    else:
        accepted = check_test_only(found, plan)
    if accounting:
        check_associations(found, res, there, shell, accepted, user)
    if accepted and over:
        # A cluster that does not enforce its limits takes such jobs, tells a start, and never starts them.
        found.start = None
        found.add("note", "Slurm", "the job would be queued all the same, and may never start")
    elif accepted and found.start is not None:
        at = found.start.at.replace("T", " ").replace("Z", " UTC")
        found.add("note", "Start", f"as things stand it would start at {at} on {found.start.nodes}")
    elif accepted:
        found.add("note", "Start", "Slurm would take the job; it does not say when it would start")
