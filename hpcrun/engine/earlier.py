"""What a configuration says of earlier runs: which it resumes, which it comes after, whose files it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcrun.config.load import config_tree
from hpcrun.config.validate import place_of
from hpcrun.engine.before import Before, came_true, in_vain
from hpcrun.engine.resume import Resumed, is_path, resume_path
from hpcrun.errors import ConfigError, NotFoundError, Problem, UsageError
from hpcrun.history.paths import RunPaths, WorkspacePaths
from hpcrun.history.record import PIPELINE, SWEEP, RunRecord
from hpcrun.history.store import History
from hpcrun.models.earlier import input_of, when_and_whom
from hpcrun.models.run import ScriptRunConfig
from hpcrun.places.base import Given, Place
from hpcrun.targets import Target, Targets

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Earlier:
    """``before`` has the key of the configuration that names each; ``inputs`` are by their names."""

    resumed: Resumed | None = None
    before: Mapping[Before, Key] = field(default_factory=dict)
    inputs: Mapping[str, Resumed] = field(default_factory=dict)

    def given(self, place: Place) -> list[Given]:
        """What a run at this place is given of runs on other machines."""
        all_ = [*self.inputs.values()] if self.resumed is None else [self.resumed, *self.inputs.values()]
        return [given for each in all_ if (given := each.given(place)) is not None]

    def found(
        self, config: ScriptRunConfig, place: Place, run_dir: str, paths: WorkspacePaths
    ) -> tuple[str | None, dict[str, str]]:
        """What the run at this place finds as ``HPCRUN_RESUME_FROM``, and its inputs; see :meth:`Resumed.on`.

        Raises ConfigError with all that is wrong with the inputs.
        """
        resumed = None if self.resumed is None else self.resumed.on(config, place, run_dir, paths)
        inputs, problems = dict[str, str](), list[Problem]()
        for name in config.inputs:
            try:
                inputs[name] = self.inputs[name].on(config, place, run_dir, paths)
            except ConfigError as exc:
                problems += exc.problems
        if problems:
            raise ConfigError(problems)
        return resumed, inputs

    def before_on(self, place: Place) -> Mapping[Before, Key]:
        """What a run at this place comes after: ``before``, and the run that it resumes, if that goes on and
        its outputs are to be sent."""
        resumed = self.resumed
        if resumed is None or not resumed.goes_on or resumed.run is None or resumed.given(place) is None:
            return self.before
        if resumed.run in {each.run for each in self.before}:
            return self.before
        return {**self.before, Before(resumed.run, "any"): resumed.key}


@dataclass(frozen=True)
class Step:
    """Another step of the same pipeline, which may be no run yet; ``host`` as records have it."""

    run_id: str
    run_dir: str
    host: str | None


def names_runs(config: ScriptRunConfig) -> bool:
    """Whether anything that a configuration says is about an earlier run."""
    resumes = config.resume_from is not None and not is_path(config.resume_from)
    return resumes or bool(config.after) or any(input_of(text).run for text in config.inputs.values())


def earlier_runs(
    history: History | None, config: ScriptRunConfig, steps: Mapping[str, Step] | None = None
) -> Earlier:
    """What of it is about runs in the history, which is None where there is none yet, and about other
    ``steps`` of its pipeline; None for a run that is no step.

    Raises NotFoundError, ConfigError with all that is wrong.
    """
    problems: list[Problem] = []

    def known(name: str, key: Key) -> RunRecord | None:
        if history is None:
            problems.append(problem(config, key, f"there is no run {name}: this workspace has no runs yet"))
            return None
        try:
            return history.get(history.resolve(name))
        except (NotFoundError, UsageError) as exc:
            problems.append(problem(config, key, exc.message, exc.hint or ""))
            return None

    before: dict[Before, Key] = {}
    for index, text in enumerate(config.after):
        when, whom = when_and_whom(text)
        if (record := known(whom, ("after", index))) is not None and history is not None:
            before |= dict.fromkeys(_each(history, record, when, config, index), ("after", index))
    for index, text in enumerate(config.needs):
        when, whom = when_and_whom(text)
        if steps is None:
            hint = "after names runs that are there."
            problems.append(problem(config, ("needs",), "needs is for the steps of a pipeline", hint))
            break
        before[Before(steps[whom].run_id, when)] = ("needs", index)
    inputs = {}
    for name, text in config.inputs.items():
        wanted, key = input_of(text), ("inputs", name)
        owner: Step | RunRecord | None = None
        if wanted.path:
            inputs[name] = Resumed(wanted.path, key=key)
        elif wanted.run:
            owner = known(wanted.run, key)
        elif steps is None:
            words = "this run is no step of a pipeline"
            problems.append(problem(config, key, words, "Name a run, or a path."))
        else:
            owner = steps[wanted.step]
        if owner is not None:
            run_id = owner.id if isinstance(owner, RunRecord) else owner.run_id
            path = file_of(owner.run_dir, wanted.name)
            inputs[name] = Resumed(path, run_id, owner.host, key, wanted.name)
            if run_id not in {each.run for each in before}:
                before[Before(run_id)] = key
    if problems:
        raise ConfigError(problems)
    return Earlier(resume_path(history, config.resume_from), before, inputs)


def file_of(run_dir: str, name: str) -> str:
    """Where ``outputs/x`` of a run is, on its target."""
    return str(RunPaths(Path(run_dir)).code / name)


def _each(
    history: History, record: RunRecord, when: str, config: ScriptRunConfig, index: int
) -> list[Before]:
    """The run; or, of a pipeline, all of its steps."""
    if record.type == SWEEP and not record.state.final:
        words = f"{record.id} is a sweep that goes on: not all of its trials are there to be waited for"
        raise ConfigError([problem(config, ("after", index), words, "Name a trial, or wait for its end.")])
    if record.type != PIPELINE:
        return [Before(record.id, when)]
    if when == "notok":
        words = f"{record.id} is a pipeline, and nothing waits for one of its steps to fail"
        hint = "Name that step's run."
        raise ConfigError([problem(config, ("after", index), words, hint)])
    rows = history.list(parent=record.id, limit=None, include_archived=True)
    return [Before(row.id, when) for row in rows]


def problem(config: ScriptRunConfig, key: Key, message: str, hint: str = "") -> Problem:
    """What is wrong at a key of a configuration, where that was written."""
    where = str(place_of(config_tree(config), key))
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
    return Problem(message, where=where, path=path, hint=hint)


def check_before(
    history: History, targets: Targets, config: ScriptRunConfig, target: Target, before: Mapping[Before, Key]
) -> None:
    """See that all that a run is to wait for can still come true, and that its scheduler can wait for it.

    Raises ConfigError; nothing was submitted then.
    """
    if not before:
        return
    from hpcrun.engine.refresh import refresh

    refresh(history, targets, {each.run for each in before})
    problems = []
    for each, key in before.items():
        found = _obstacle(history.get(each.run), each, target)
        if found is not None:
            problems.append(problem(config, key, *found))
    if problems:
        raise ConfigError(problems)


def _obstacle(other: RunRecord, before: Before, target: Target) -> tuple[str, str] | None:
    ended = came_true(before.when, other)
    if ended is False:
        words = in_vain(before, other).replace("it was to", "the run is to")
        return words, "To begin however that one ended: any:RUN. Nothing was submitted."
    if ended:
        return None
    if other.target.partition(":")[0] != target.site.name:
        return None  # no scheduler waits for another's job: the run is sent once that one has ended
    if other.job_id is None:
        words = f"{other.id} is {other.state}, and has no job yet that could be waited for"
        return words, f"Take its submission further, and submit again: hpcrun show {other.id}"
    return None
