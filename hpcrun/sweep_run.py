"""A sweep from Python: Azure ML's HyperDriveRun."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hpcrun.errors import UsageError
from hpcrun.experiment import Run

if TYPE_CHECKING:
    from pathlib import Path

    from hpcrun.engine.sweep_trials import Trial


class HyperDriveRun(Run):
    """A handle on a sweep: a run that is nothing but the parent of its trials.

    >>> run = Experiment(ws, "cifar").submit(HyperDriveConfig(...))
    >>> run.wait_for_completion()
    >>> run.get_best_run_by_primary_metric().get_metrics()

    The questions are answered from what is here: what a trial reported, as far as it has come home.
    """

    def get_best_run_by_primary_metric(
        self,
        include_failed: bool = True,
        include_canceled: bool = True,
        include_resume_from_runs: bool = True,
    ) -> Run | None:
        """The trial with the best value of the primary metric, among all that each reported; None where none
        has reported it.

        Trials that failed, or that were canceled (those that the policy stopped are), are left out where
        they are not to be included. With ``include_resume_from_runs`` one of a sweep that this one resumed
        from may be the best, if it is still in the history.
        """
        from hpcrun.engine.sweep_trials import by_metric, primary
        from hpcrun.states import RunState

        self._refresh()
        left_out = set() if include_failed else {RunState.FAILED}
        left_out |= set() if include_canceled else {RunState.CANCELED}
        trials = self._trials() + (self._earlier() if include_resume_from_runs else [])
        goal = primary(self.record)[1]
        found = by_metric([t for t in trials if t.best is not None and t.state not in left_out], goal)
        return Run.get(self.experiment.workspace, found[0].run_id) if found else None

    def get_children_sorted_by_primary_metric(
        self, top: int = 0, reverse: bool = False, discard_no_metric: bool = False
    ) -> list[dict[str, Any]]:
        """The trials as ``{run_id, hyperparameters (JSON), best_primary_metric, status}``, the best first
        (``reverse``: last); those that reported nothing always come last, or not at all.

        ``top`` gives so many of them; 0 all. Raises UsageError for a ``top`` below 0.
        """
        from hpcrun.engine.sweep_trials import by_metric, primary

        if top < 0:
            raise UsageError(f"top is 0 (all) or more, and not {top}")
        self._refresh()
        trials = by_metric(self._trials(), primary(self.record)[1])
        measured = [trial for trial in trials if trial.best is not None]
        silent = [trial for trial in trials if trial.best is None]
        found = measured[::-1] if reverse else measured
        found += [] if discard_no_metric else silent
        return [
            {
                "run_id": trial.run_id,
                "hyperparameters": json.dumps(dict(trial.parameters)),
                "best_primary_metric": trial.best,
                "status": trial.state.value,
            }
            for trial in (found[:top] if top else found)
        ]

    def get_hyperparameters(self) -> dict[str, str]:
        """What each trial was given, as JSON, by its run's id."""
        history = self._workspace.history
        ids = [row.id for row in history.list(parent=self.id, limit=None, include_archived=True)][::-1]
        known = history.parameters_of(ids)  # from the index: there may be ten thousand
        return {run_id: json.dumps(known.get(run_id, {})) for run_id in ids}

    def plot(self, path: str | Path | None = None) -> Path:
        """Draw the sweep so far, as ``hpcrun sweep status --plot`` does: the curve of the best, parallel
        coordinates, and the metric against each hyperparameter.

        A PNG, SVG or PDF file, as ``path`` is called; left out, ``ID.png`` in the current folder. Gives the
        path. Takes matplotlib (the extra ``plot``). Raises UsageError for another suffix or where there is no
        such folder, NotFoundError where no trial has reported the metric, HpcrunError.
        """
        from pathlib import Path

        from hpcrun.engine.sweep_picture import draw_sweep
        from hpcrun.metrics.picture import check_picture

        file = Path(path if path is not None else f"{self.id}.png")
        check_picture(file, example="sweep.png")
        self._refresh()
        draw_sweep(self._workspace.history, self.record, file)
        return file

    def retry(self) -> list[int]:
        """Try the failed trials again, as ``hpcrun sweep retry`` does; their numbers."""
        from hpcrun.engine.sweep_again import retry

        self._refresh()
        return retry(self._workspace.history, self._workspace.targets, self.id)

    def _trials(self) -> list[Trial]:
        from hpcrun.engine.sweep_trials import trials_of

        return trials_of(self._workspace.history, self.record)

    def _earlier(self) -> list[Trial]:
        """The trials of the sweeps that it resumed from."""
        from hpcrun.engine.sweep_trials import trials_of
        from hpcrun.errors import NotFoundError

        history, found = self._workspace.history, list[Any]()
        for sweep_id in self.record.config["sweep"].get("resumed", []):
            try:
                found += trials_of(history, history.get(sweep_id))
            except NotFoundError:  # it was deleted since
                continue
        return found

    def _refresh(self) -> None:
        """Look at the trials, and move the sweep one step."""
        from hpcrun.engine.sweep_wait import move

        if not self.record.state.final:
            move(self._workspace.history, self._workspace.targets, self.id)

    def __repr__(self) -> str:
        return f"HyperDriveRun({self.experiment.name!r}, {self.id!r}, {self.status})"
