"""What a run measured and what it was told: the part of its handle that reads metrics and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcrun.metrics.reading import Point
    from hpcrun.workspace import Workspace


class Measured:
    """The metrics and parameters of a run of a workspace."""

    id: str
    _workspace: Workspace

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        populate: bool = False,
        *,
        rank: int | None = None,
    ) -> dict[str, Any]:
        """The metrics of the run by name, as far as they are written by now; ``name`` narrows it to one.

        A value that was logged once is that value, one that was logged several times is a list, with the
        types that were logged; a row is ``{column: value}``, several are ``{column: [values]}``, and so are
        tables. An image is its name among the run's files, or, with ``populate``, the path of it here. Of a
        run that goes on elsewhere, what it has by now is fetched; where that cannot be, what is here counts.

        Rank 0 counts, and of a metric that it does not have the lowest rank that does; ``rank`` gives those
        of one alone. With ``recursive``: ``{run_id: metrics}`` of the run and its descendants that have any.

        >>> run.get_metrics()["loss"]
        [0.9, 0.4, 0.25]
        """
        from hpcrun.metrics.values import by_name, shaped

        found = {}
        for run_id in self._family(recursive):
            points = by_name(p for p in self._points(run_id, rank) if name is None or p.name == name)
            metrics = {each: shaped(points[each]) for each in points}
            if populate:
                images = {each for each in points if all(p.kind == "image" for p in points[each])}
                metrics |= {each: self._images(run_id, metrics[each]) for each in images}
            found[run_id] = metrics
        if recursive:
            return {run_id: metrics for run_id, metrics in found.items() if metrics}
        return found[self.id]

    def get_metric_points(self, name: str, *, rank: int | None = None) -> list[Point]:
        """All points of a metric in the order in which they were logged, each with ``value``, ``step`` (None
        where none was given), ``time`` (seconds since 1970), ``kind``, ``rank`` and ``attempt``.

        Ranks as for :meth:`get_metrics`. Empty where there is no such metric.
        """
        from hpcrun.metrics.values import by_name

        self._family(False)
        return by_name(p for p in self._points(self.id, rank) if p.name == name).get(name, [])

    @property
    def parameters(self) -> dict[str, Any]:
        """What the script is told by name: numbers, texts, true and false."""
        return self._workspace.history.get(self.id).parameters

    def get_hyperparameters(self) -> dict[str, Any]:
        """The same by Azure ML's name."""
        return self.parameters

    def _family(self, recursive: bool) -> list[str]:
        """The runs whose metrics are asked for, once what they wrote until now can be read here."""
        from hpcrun.engine.measures import bring_metrics
        from hpcrun.engine.refresh import refresh

        ws = self._workspace
        below = ws.history.descendants(self.id) if recursive else []
        active = sorted(ws.history.active_ids() & {self.id, *below})
        if active:
            refresh(ws.history, ws.targets, active)
            bring_metrics(ws.history, ws.targets, active)
        # Of ten thousand trials that wait none is looked at one by one: the index knows which have measured.
        return [self.id, *ws.history.metrics_of(below)]

    def _points(self, run_id: str, rank: int | None) -> list[Point]:
        from hpcrun.metrics.reading import read_points

        history = self._workspace.history
        return list(read_points(history.seen(history.get(run_id)).metrics, rank=rank))

    def _images(self, run_id: str, paths: Any) -> Any:
        """Where images lie here, once those that were left on another machine are fetched."""
        from hpcrun.engine.download import get_files
        from hpcrun.globs import escape

        ws = self._workspace
        names = [path for path in (paths if isinstance(paths, list) else [paths]) if isinstance(path, str)]
        lie = get_files(ws.history, ws.targets, run_id, [escape(name) for name in names]) if names else {}
        found = [lie.get(name, name) for name in names]
        return found if isinstance(paths, list) else (found or [paths])[0]
