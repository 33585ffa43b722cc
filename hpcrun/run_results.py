"""What the function of a run returned."""

from __future__ import annotations

from typing import Any

from hpcrun.run import RunHandle


class RunResults(RunHandle):
    """A run that may be the call of a function."""

    def done(self) -> bool:
        """Whether the run has ended, outputs and logs included; it is looked at, and not waited for."""
        self._refresh()
        return self.record.state.final

    def result(self, timeout: float | None = None) -> Any:
        """What the function of the run returned, once it has; of several processes, what rank 0 did.

        Raises what the function raised, from a RunFailedError that has the traceback; RunFailedError where
        the run failed in another way, RunCanceledError, WaitTimeoutError after ``timeout`` seconds, RunError
        for a result that cannot be unpickled here, UsageError for a run of something else.

        A result is a pickle, and is unpickled here: ask for it only where you trust those who can write to
        the run's folder.
        """
        return self.results(timeout)[0]

    def results(self, timeout: float | None = None) -> list[Any]:
        """What the function returned in each process, by rank; otherwise as :meth:`result`."""
        from hpcrun.engine.results import check_function, results
        from hpcrun.engine.wait import wait

        check_function(self.record)
        ws = self._workspace
        return results(ws.history, wait(ws.history, ws.targets, self.id, timeout=timeout))
