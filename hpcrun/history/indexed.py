"""The part of the history that deals with metrics and parameters."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from hpcrun.history import measures
from hpcrun.history.database import Database
from hpcrun.history.index import Along, Asked
from hpcrun.history.measures import File, Metric
from hpcrun.metrics.sums import Mark


class Indexed:
    """Metrics and parameters of runs, by their ids, from the index alone."""

    _database: Database

    def metrics_of(self, run_ids: Sequence[str]) -> dict[str, builtins.list[Metric]]:
        """The metrics of each of these runs that has any, by name; as they were last taken in."""
        found: dict[str, list[Metric]] = {}
        for sql, part in measures.in_batches(measures.METRICS, run_ids):
            found |= measures.to_metrics(self._database.read(sql, part))
        return found

    def parameters_of(self, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The parameters of each of these runs that has any."""
        found: dict[str, dict[str, Any]] = {}
        for sql, part in measures.in_batches(measures.PARAMETERS, run_ids):
            found |= measures.to_parameters(self._database.read(sql, part))
        return found

    def ask(self, where: str) -> Asked:
        """A question that runs are to be asked, as :meth:`History.list` takes it: see
        :mod:`hpcrun.metrics.where`. Raises UsageError, which points at what is wrong."""
        from hpcrun.history import asking  # only where something is asked

        return asking.asked(where, self._database.read)

    def along(self, sort: str) -> Along:
        """How to sort by a metric or a parameter. Raises UsageError for what is none."""
        from hpcrun.history import asking

        return asking.sorted_by(sort, self._database.read)

    def metric_names(self) -> builtins.list[str]:
        """The metrics that any run has."""
        from hpcrun.history import asking

        return asking.names_there(self._database.read, "metrics")

    def parameter_names(self) -> builtins.list[str]:
        """The parameters that any run has."""
        from hpcrun.history import asking

        return asking.names_there(self._database.read, "parameters")

    def left_out(self, run_id: str) -> bool:
        """Whether a run has more metrics, or longer names, than the index takes."""
        sql = "SELECT 1 FROM metric_files JOIN runs ON seq = run WHERE id = ? AND left_out"
        return bool(self._database.read(sql, [run_id]))

    def metric_marks(self, run_id: str) -> dict[int, Mark]:
        """How far each of the run's metrics files was read."""
        return measures.to_marks(self._database.read(f"{measures.FILES} WHERE id = ?", [run_id]))

    def take_in_metrics(self, found: Sequence[tuple[str, Sequence[File]]]) -> None:
        """Count in what was found in the files of runs: one transaction. What another process has counted in
        meanwhile is not counted again. Raises HistoryError."""
        if found:
            with self._database.write() as connection:
                for run_id, files in found:
                    measures.put_files(connection, run_id, files)
