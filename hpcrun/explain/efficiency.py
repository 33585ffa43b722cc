"""What a run that has ended took of what it had asked for, and what to ask for instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpcrun.explain.facts import Facts
from hpcrun.units import Memory, human_bytes, human_seconds

_WASTED = 0.25
_SHORT = 60.0
"""Seconds below which a run says little of what the next one needs."""


def used(usage: Mapping[str, Any] | None, time_limit: int | None) -> str:
    """``3h 20m of 12h (28 %), 61 % of 8 CPUs, 12.3 GiB of 240.0 GiB (5 %)``; empty where nothing is known.

    ``usage`` is :attr:`hpcrun.schedulers.base.JobFacts.usage`, ``time_limit`` is in seconds.
    """
    usage = usage or {}
    parts = []
    elapsed, peak = usage.get("elapsed_seconds"), usage.get("memory_bytes") or usage.get("max_rss_bytes")
    if elapsed is not None:
        parts.append(human_seconds(elapsed))
        if time_limit:
            parts[-1] += f" of {human_seconds(time_limit)} ({percent(elapsed / time_limit)})"
    share = cpu_share(usage)
    if share is not None:
        cpus = int(usage["allocated_cpus"])
        parts.append(f"{percent(share)} of {cpus} CPU{'' if cpus == 1 else 's'}")
    if peak:
        asked = usage.get("requested_memory_bytes")
        parts.append(human_bytes(peak))
        parts[-1] += (
            f" of {human_bytes(asked)} ({percent(peak / asked)})" if asked else " in its largest process"
        )
    return ", ".join(parts)


def percent(share: float) -> str:
    """``28 %``"""
    return f"{100 * share:.0f} %" if share >= 0.01 or share <= 0 else "less than 1 %"


def cpu_share(usage: Mapping[str, Any]) -> float | None:
    """CPU time of the time that all CPUs together had."""
    cpu, elapsed, cpus = (usage.get(key) for key in ("cpu_seconds", "elapsed_seconds", "allocated_cpus"))
    return cpu / (elapsed * cpus) if cpu is not None and elapsed and cpus else None


def advice(facts: Facts) -> list[str]:
    """What to ask for next time, where most of what was asked for lay idle."""
    usage = facts.usage or {}
    if not facts.slurm or usage.get("elapsed_seconds", 0) < _SHORT:
        return []
    return [*_less_memory(facts, usage), *_fewer_cpus(usage)]


def _less_memory(facts: Facts, usage: Mapping[str, Any]) -> list[str]:
    peak, asked = usage.get("memory_bytes"), usage.get("requested_memory_bytes")
    if not peak or not asked or peak / asked >= _WASTED or asked < 2**30:
        return []
    found = f"Most of the memory lay idle ({human_bytes(peak)} of {human_bytes(asked)}); less is free sooner"
    if not facts.memory:
        return [f"{found}: see memory in run.yaml's resources, or the site's defaults."]
    # The node that took most cannot have taken more than all did, nor less than its largest task.
    node = max(peak / usage.get("allocated_nodes", 1), usage.get("max_rss_bytes", 0))
    step = 1024 if node >= 2**32 else 256
    return [f"{found}: --mem {Memory(math.ceil(1.5 * node / 2**20 / step) * step).slurm} would do."]


def _fewer_cpus(usage: Mapping[str, Any]) -> list[str]:
    share = cpu_share(usage)
    cpus = usage.get("allocated_cpus", 1)
    if share is None or share >= _WASTED or cpus < 2:
        return []
    busy = max(1, math.ceil(share * cpus))
    return [
        f"Of {cpus:.0f} CPUs about {busy} would have been enough: fewer (--cpus-per-task) are free sooner."
    ]
