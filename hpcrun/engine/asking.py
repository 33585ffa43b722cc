"""What is asked for in one go, from its configuration to its record: a run, a pipeline, or a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcrun.config.pipeline import Pipeline
from hpcrun.engine.code import Code, code_of
from hpcrun.engine.earlier import earlier_runs
from hpcrun.engine.pipeline import PipelinePlan, prepare_pipeline, submit_pipeline
from hpcrun.engine.prepare import prepare
from hpcrun.engine.rerun import PROPERTY, config_again, pipeline_again, sweep_again
from hpcrun.engine.submit import Extras, submit
from hpcrun.history.record import PIPELINE, SWEEP, RunRecord
from hpcrun.history.store import History
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.sweep import SweepConfig
from hpcrun.targets import Targets

if TYPE_CHECKING:
    from hpcrun.engine.sweep import SweepPlan


def ask_for(
    history: History,
    targets: Targets,
    config: ScriptRunConfig | Pipeline | SweepConfig,
    extras: Extras,
    *,
    experiment: str,
    run_id: str | None = None,
    after: Sequence[str] | None = None,
) -> RunRecord:
    """Submit what ``config`` describes; the record of the run, or of the parent of its steps or trials.

    ``after`` goes before what the configuration says of that. Errors as :func:`hpcrun.engine.submit.submit`.
    """
    if isinstance(config, Pipeline):
        steps = {name: _after(step, after) for name, step in config.steps.items()}
        pipeline = prepare_pipeline(
            replace(config, steps=steps),
            history.paths,
            targets,
            history,
            experiment=experiment,
            run_id=run_id,
        )
        return submit_pipeline(history, targets, pipeline, extras)[0]
    if isinstance(config, SweepConfig):
        from hpcrun.engine.sweep import prepare_sweep, start_sweep

        config = config.model_copy(update={"run_config": _after(config.run_config, after)})
        sweep = prepare_sweep(config, history.paths, targets, history, experiment=experiment, run_id=run_id)
        return start_sweep(history, targets, sweep, extras)[0]
    config = _after(config, after)
    return _one(history, targets, config, extras, experiment=experiment, run_id=run_id)


def ask_again(
    history: History,
    targets: Targets,
    record: RunRecord,
    extras: Extras,
    *,
    fresh: bool = False,
    target: str | None = None,
) -> RunRecord:
    """Submit a run once more, all steps of a pipeline, or a sweep: the same configuration, and the same code
    unless ``fresh``. Errors as :func:`hpcrun.engine.rerun.config_again`, and as above."""
    flags = {"compute_target": target}
    extras = replace(extras, properties={**extras.properties, PROPERTY: record.id})
    if record.type == PIPELINE:
        pipeline = prepare_again(history, targets, record, flags=flags, fresh=fresh)
        return submit_pipeline(history, targets, pipeline, extras)[0]
    if record.type == SWEEP:
        from hpcrun.engine.sweep import start_sweep

        sweep = prepare_sweep_again(history, targets, record, flags=flags, fresh=fresh)
        return start_sweep(history, targets, sweep, extras)[0]
    config = config_again(record, history.paths.run(record.id), flags=flags)
    code = None if fresh else code_of(history.paths, record)
    return _one(history, targets, config, extras, experiment=record.experiment, code=code)


def prepare_again(
    history: History,
    targets: Targets,
    record: RunRecord,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    fresh: bool = False,
    experiment: str | None = None,
    display_name: str | None = None,
    description: str | None = None,
    run_id: str | None = None,
    ask: bool = True,
) -> PipelinePlan:
    """The pipeline that ``record`` is the parent of, ready to be submitted once more; ``fresh``: with its
    steps' sources as they are now. Errors as :func:`hpcrun.engine.rerun.pipeline_again`."""
    pipeline, codes = pipeline_again(history, record, overrides=overrides, flags=flags)
    pipeline.display_name, pipeline.description = display_name, description
    return prepare_pipeline(
        pipeline,
        history.paths,
        targets,
        history,
        experiment=experiment,
        run_id=run_id,
        codes=None if fresh else codes,
        ask=ask,
    )


def prepare_sweep_again(
    history: History,
    targets: Targets,
    record: RunRecord,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    fresh: bool = False,
    run_id: str | None = None,
    ask: bool = True,
) -> SweepPlan:
    """The sweep that ``record`` is, ready to be started once more; ``fresh``: with its source as it is now.
    Errors as :func:`hpcrun.engine.rerun.sweep_again`, and as :func:`hpcrun.engine.sweep.prepare_sweep`."""
    from hpcrun.engine.sweep import prepare_sweep

    config = sweep_again(record, overrides=overrides, flags=flags)
    code = None if fresh else code_of(history.paths, record)
    experiment = config.run_config.experiment or record.experiment
    return prepare_sweep(
        config, history.paths, targets, history, experiment=experiment, run_id=run_id, code=code, ask=ask
    )


def _one(
    history: History,
    targets: Targets,
    config: ScriptRunConfig,
    extras: Extras,
    *,
    experiment: str,
    run_id: str | None = None,
    code: Code | None = None,
) -> RunRecord:
    plan = prepare(
        config,
        history.paths,
        targets,
        experiment=experiment,
        run_id=run_id,
        earlier=earlier_runs(history, config),
        code=code,
    )
    return submit(history, targets, plan, extras)[0]


def _after(config: ScriptRunConfig, words: Sequence[str] | None) -> ScriptRunConfig:
    if words is None:
        return config
    config = config.model_copy(deep=True)
    config.after = [*words]
    return config
