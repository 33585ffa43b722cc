"""A run once more: the configuration that an earlier one had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcrun.config.load import read_run_config, resolve_run_config
from hpcrun.errors import NotFoundError
from hpcrun.functions.call import recall
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import PIPELINE, RunRecord
from hpcrun.models.run import ScriptRunConfig

PROPERTY = "rerun_of"
"""Names the run that a run repeats."""

_PLACES = ("compute_target", "resources.partition")


def config_again(
    record: RunRecord,
    home: RunPaths,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> ScriptRunConfig:
    """The configuration that ``record`` ran with, with ``--set`` overrides and then flags on top.

    On the same target it is the very same, with what the site filled in then. On another one, what the
    site filled in is left out, and the other site fills it in anew. What it resumed from is the same place,
    even if the run was named by ``@-1``, and so are its inputs; it waits for no other run. Display name and
    description are the earlier run's own. A function is called as it was then: its pickle is in ``home``, the
    run's folder in the history.

    Raises NotFoundError for a run without configuration, or whose pickle is gone; ConfigError.
    """
    moved = _moved(record, overrides, flags or {})
    text = record.config.get("asked") if moved else None
    text = text or record.config.get("yaml")
    if not isinstance(text, str):
        hint = "A pipeline is submitted again from its file." if record.type == PIPELINE else None
        raise NotFoundError(f"run {record.id} has no configuration that could be run again", hint=hint)
    config = read_run_config(text, f"configuration of {record.id}")
    if config.after or config.needs:  # they were waited for then
        config.after, config.needs = [], []
    if config.inputs:
        paths = record.config.get("inputs")
        config.inputs = {**paths} if isinstance(paths, dict) else {}
    config.experiment, config.display_name, config.description = record.experiment, None, None
    resumed = record.config.get("resume_path")
    if isinstance(resumed, str) and resumed.isprintable():
        config.resume_from = resumed
    return recall(resolve_run_config(config, overrides=overrides, flags=flags), home.function)


def _moved(record: RunRecord, overrides: Sequence[str], flags: Mapping[str, object]) -> bool:
    if flags.get("compute_target") not in (None, record.target) or flags.get("resources.partition"):
        return True
    return any(override.partition("=")[0].strip() in _PLACES for override in overrides)
