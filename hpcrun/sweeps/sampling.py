"""Which hyperparameters each trial of a sweep has: a pure function of the sweep and of what is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count as counting
from itertools import islice

from hpcrun.models.sweep import BayesianParameterSampling, GridParameterSampling, SweepConfig
from hpcrun.sweeps.results import TrialResult as TrialResult
from hpcrun.sweeps.space import (
    Parameters,
    Space,
    continuous,
    draw,
    every_axis,
    index_of,
    key_of,
    point,
    size,
    space_of,
)

_TRIES = 200
"""Draws in a row that were had already, before those that were not are looked for one by one."""

_LISTED = 1_000_000
"""Points of a space that are listed for that."""


def seed_of(config: SweepConfig, seed_state: int | str) -> str:
    """What all draws begin with: the configuration's own seed, or else ``seed_state``."""
    return str(seed_state if config.seed is None else config.seed)


def total(config: SweepConfig, earlier: Sequence[TrialResult] = ()) -> int:
    """How many trials there are to be: at most ``max_total_runs``, and no point of the space twice.

    ``earlier``: the trials of earlier sweeps (``resume_from``), whose points are had.
    """
    space = space_of(config.space)
    most, whole = config.max_total_runs, size(space)
    if whole is not None and not isinstance(config.hyperparameter_sampling, BayesianParameterSampling):
        whole -= len(_had(space, earlier))
        most = whole if most is None else min(most, whole)
    assert most is not None  # as the model asks
    return most


def propose(
    config: SweepConfig,
    seed_state: int | str,
    known: Sequence[TrialResult],
    start: int,
    count: int,
) -> list[Parameters]:
    """The hyperparameters of trials ``start`` to ``start + count - 1``; fewer where there are no more.

    ``seed_state`` (the sweep's id) is what draws begin with where the configuration has no seed. ``known``
    are the sweep's trials so far, those that still run among them, and those of earlier sweeps. Grid,
    random and Sobol make of them that no point of an earlier sweep comes again, and of the sweep's own
    nothing: trial 7 is the same whenever and however many are asked for. Bayesian sampling is a function of
    all of them and of ``start``. Raises UsageError where Optuna is not installed.
    """
    count = max(0, min(count, total(config, _earlier(known)) - start))
    if isinstance(config.hyperparameter_sampling, BayesianParameterSampling):
        from hpcrun.sweeps.bayesian import ask

        return ask(config, seed_of(config, seed_state), known, start, count)
    earlier, space = _earlier(known), space_of(config.space)
    if isinstance(config.hyperparameter_sampling, GridParameterSampling):
        return [point(space, index) for index in _indices(space, earlier, start, count)]
    at = draws(config, seed_state)
    if continuous(space) and not earlier:
        return [at(number) for number in range(start, start + count)]
    return list(islice(_new(space, at, earlier), start, start + count))


def draws(config: SweepConfig, seed_state: int | str) -> Callable[[int], Parameters]:
    """The n-th draw, for any n."""
    seed, space = seed_of(config, seed_state), space_of(config.space)
    if getattr(config.hyperparameter_sampling, "rule", "random") == "sobol":
        from hpcrun.sweeps.sobol import coordinate

        dimension = {axis.path: number for number, axis in enumerate(every_axis(space))}
        return lambda n: draw(space, lambda path: coordinate(n, dimension[path], seed))
    return lambda n: draw(space, lambda path: uniform_of(f"{seed} {path} {n}"))


def uniform_of(text: str) -> float:
    """A number between 0 and 1, neither of them, that looks drawn at random and is always the same."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52


def _earlier(known: Sequence[TrialResult]) -> list[TrialResult]:
    return [trial for trial in known if trial.number < 0]


def _had(space: Space, earlier: Sequence[TrialResult]) -> list[int]:
    found = {index_of(space, trial.parameters) for trial in earlier}
    return sorted(index for index in found if index is not None)


def _indices(space: Space, earlier: Sequence[TrialResult], start: int, count: int) -> Iterator[int]:
    had = set(_had(space, earlier))
    return islice((index for index in range(size(space) or 0) if index not in had), start, start + count)


def _new(
    space: Space, at: Callable[[int], Parameters], earlier: Sequence[TrialResult]
) -> Iterator[Parameters]:
    """The draws one after the other, without those that were had."""
    seen, tries, whole = {key_of(trial.parameters) for trial in earlier}, 0, size(space)
    for n in counting():
        drawn = at(n)
        key = key_of(drawn)
        if key not in seen:
            tries = 0
            seen.add(key)
            yield drawn
            continue
        tries += 1
        if tries < _TRIES:
            continue
        if whole is not None and whole <= _LISTED:
            yield from _rest(space, seen, whole)
            return
        tries = 0  # there is next to nothing else
        yield drawn


def _rest(space: Space, seen: set[tuple[tuple[str, str], ...]], whole: int) -> Iterator[Parameters]:
    """The points that were not had, in an order that looks drawn."""
    left = [each for index in range(whole) if key_of(each := point(space, index)) not in seen]
    yield from sorted(left, key=lambda each: uniform_of(repr(key_of(each))))
