"""A run once more: the configuration that an earlier one had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcrun.config.dump import dump_run_config, section_lines
from hpcrun.config.load import read_run_config, resolve_run_config
from hpcrun.config.merge import parse_override
from hpcrun.config.pipeline import SWEEP, Pipeline
from hpcrun.config.sweep import read_sweep
from hpcrun.engine.before import step_names
from hpcrun.engine.code import Code, code_of
from hpcrun.engine.giving import given_to
from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.functions.call import recall
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import CHILD, INTERACTIVE, RunRecord
from hpcrun.history.store import History
from hpcrun.models.earlier import input_of
from hpcrun.models.notify import Notify
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.sweep import SweepConfig, SweepSection

PROPERTY = "rerun_of"
"""Names the run that a run repeats."""

_HINTS = {
    CHILD: "It is a part of its parent, which can be run again.",
    INTERACTIVE: "Start its program once more.",
}
_PLACES = ("compute_target", "resources.partition")


def config_again(
    record: RunRecord,
    home: RunPaths,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    as_step: bool = False,
) -> ScriptRunConfig:
    """The configuration that ``record`` ran with, with ``--set`` overrides and then flags on top.

    On the same target it is the very same, with what the site filled in then. On another one, what the
    site filled in is left out, and the other site fills it in anew. What it resumed from is the same place,
    even if the run was named by ``@-1``, and so are its inputs; it waits for no other run. Display name and
    description are the earlier run's own. A function is called as it was then: its pickle is in ``home``, the
    run's folder in the history. ``as_step``: what it says of other steps of its pipeline holds for those of
    the new one.

    Raises NotFoundError for a run without configuration, or whose pickle is gone; ConfigError.
    """
    moved = _moved(record, overrides, flags or {})
    text = record.config.get("asked") if moved else None
    text = text or record.config.get("yaml")
    if not isinstance(text, str):
        hint = _HINTS.get(record.type)
        raise NotFoundError(f"run {record.id} has no configuration that could be run again", hint=hint)
    config = read_run_config(text, f"configuration of {record.id}")
    if config.after or (config.needs and not as_step):  # they were waited for then
        config.after, config.needs = [], config.needs if as_step else []
    # What was sent from another machine is sent again, if need be: it is not for the new run to rely on.
    given = {each.slot: each for each in given_to(record)}
    if config.inputs:
        of_steps = {name: text for name, text in config.inputs.items() if as_step and input_of(text).step}
        paths = record.config.get("inputs")
        config.inputs = {**paths} if isinstance(paths, dict) else {}
        for name in config.inputs:
            if (sent := given.get(f"inputs-{name}")) is not None:
                config.inputs[name] = f"{sent.run}/{sent.name}"
        config.inputs = {**config.inputs, **of_steps}
    config.experiment, config.display_name, config.description = record.experiment, None, None
    resumed = record.config.get("resume_path")
    if "resume_from" in given:
        config.resume_from = given["resume_from"].run
    elif isinstance(resumed, str) and resumed.isprintable():
        config.resume_from = resumed
    return recall(resolve_run_config(config, overrides=overrides, flags=flags), home.function)


def pipeline_again(
    history: History,
    record: RunRecord,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> tuple[Pipeline, dict[str, Code]]:
    """The pipeline that ``record`` is the parent of, with the code of each step; what steps need of each
    other they need of the new ones. An override of ``steps.NAME.KEY`` is for one step, any other for all.

    Raises NotFoundError for one whose steps are not all there, ConfigError.
    """
    names = {name: run_id for run_id, name in step_names(record).items()}
    own: dict[str, list[str]] = {name: [] for name in names}
    for override in overrides:
        path, _ = parse_override(override)
        if path[0] != "steps":
            for each in own.values():
                each.append(override)
        elif len(path) > 2 and path[1] in own:
            own[path[1]].append(override.split(".", 2)[2])
        else:
            hint = f"There are: {', '.join(names)}"
            raise ConfigError([Problem(f"not a key of a step: {'.'.join(path)}", where="--set", hint=hint)])
    steps, codes = {}, {}
    for name, run_id in names.items():
        step = history.get(run_id)
        home = history.paths.run(run_id)
        steps[name] = config_again(step, home, overrides=own[name], flags=flags, as_step=True)
        steps[name].display_name = steps[name].display_name or step.display_name
        codes[name] = code_of(history.paths, step)
    return Pipeline(steps, experiment=record.experiment), codes


def sweep_again(
    record: RunRecord,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> SweepConfig:
    """The sweep that ``record`` is, with ``--set`` overrides and then flags on top, on the same target unless
    these name another. It waits for no other run, and goes on from the sweeps that it went on from then.

    Raises ConfigError.
    """
    known, shown = record.config["sweep"], f"configuration of {record.id}"
    run = read_run_config(known["run"], shown)
    wanted = {key: record.notify[key] for key in Notify.model_fields if record.notify.get(key) is not None}
    run.after, run.notify = [], Notify.model_validate(wanted) if wanted else None
    section = SweepSection.model_validate({**known["section"], "resume_from": known.get("resumed", [])})
    text = dump_run_config(run) + section_lines(SWEEP, section)
    flags = {**(flags or {}), "compute_target": (flags or {}).get("compute_target") or record.target}
    return read_sweep(text, shown, overrides=overrides, flags=flags)


def _moved(record: RunRecord, overrides: Sequence[str], flags: Mapping[str, object]) -> bool:
    if flags.get("compute_target") not in (None, record.target) or flags.get("resources.partition"):
        return True
    return any(override.partition("=")[0].strip() in _PLACES for override in overrides)
