"""The closed set of run states, why a run ended, the legal moves, and Slurm's words for all of it.

Azure ML's words for states. A run's ``state`` is one of :class:`RunState`; its ``reason`` (a word of
:class:`Reason`, or empty) says why. Slurm's words come from squeue(1) and sacct(1), 22.05 to 26.05.
"""

from __future__ import annotations

from enum import Enum


class RunState(str, Enum):
    NOT_STARTED = "NotStarted"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    PAUSED = "Paused"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    NOT_RESPONDING = "NotResponding"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def final(self) -> bool:
        return self in FINAL

    def __str__(self) -> str:
        return self.value


class Reason(str, Enum):
    """Why a run is as it is; empty when there is nothing to explain."""

    NONE = ""
    BAD_EXIT = "BadExit"
    SIGNAL = "Signal"
    OUT_OF_MEMORY = "OutOfMemory"
    TIMEOUT = "Timeout"
    NODE_FAIL = "NodeFail"
    BOOT_FAIL = "BootFail"
    PREEMPTED = "Preempted"
    DEADLINE = "Deadline"
    REVOKED = "Revoked"
    LAUNCH_FAILED = "LaunchFailed"
    ENVIRONMENT = "Environment"
    REJECTED = "Rejected"
    CANCELED = "Canceled"
    LOST = "Lost"
    HELD = "Held"
    SUSPENDED = "Suspended"
    REQUEUED = "Requeued"
    DEPENDENCY = "Dependency"
    STOPPED_EARLY = "StoppedEarly"
    NOT_BEGUN = "NotBegun"

    def __str__(self) -> str:
        return self.value


S = RunState
FINAL = frozenset({S.COMPLETED, S.FAILED, S.CANCELED})
ACTIVE = frozenset(S) - FINAL

_LIVE = frozenset({S.PREPARING, S.QUEUED, S.STARTING, S.RUNNING, S.PAUSED, S.NOT_RESPONDING})
_ENDS = frozenset({S.FINALIZING, S.COMPLETED, S.FAILED, S.CANCELED, S.CANCEL_REQUESTED})

MOVES: dict[RunState, frozenset[RunState]] = {
    S.NOT_STARTED: _LIVE | _ENDS,
    **{state: (_LIVE | _ENDS) - {state} for state in _LIVE},
    # Once canceling was asked for, only the end is left; the job may still win the race.
    S.CANCEL_REQUESTED: frozenset({S.FINALIZING, S.COMPLETED, S.FAILED, S.CANCELED}),
    # A requeue may overtake the end of an attempt that looked final.
    S.FINALIZING: frozenset({S.COMPLETED, S.FAILED, S.CANCELED, S.QUEUED, S.STARTING, S.RUNNING}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELED: frozenset(),
}


def may_move(old: RunState, new: RunState) -> bool:
    """Whether a run may go from ``old`` to ``new``; final is final."""
    return new in MOVES[old]


R = Reason
SLURM_STATES: dict[str, tuple[RunState, Reason]] = {
    "PENDING": (S.QUEUED, R.NONE),
    "REQUEUED": (S.QUEUED, R.REQUEUED),
    "REQUEUE_FED": (S.QUEUED, R.REQUEUED),
    "REQUEUE_HOLD": (S.QUEUED, R.HELD),
    "SPECIAL_EXIT": (S.QUEUED, R.HELD),
    "RESV_DEL_HOLD": (S.QUEUED, R.HELD),
    "EXPEDITING": (S.QUEUED, R.NONE),
    "POWER_UP_NODE": (S.STARTING, R.NONE),
    "CONFIGURING": (S.STARTING, R.NONE),
    "STAGE_IN": (S.STARTING, R.NONE),
    "LAUNCH_FAILED": (S.FAILED, R.LAUNCH_FAILED),
    "RECONFIG_FAIL": (S.FAILED, R.LAUNCH_FAILED),
    "RUNNING": (S.RUNNING, R.NONE),
    "RESIZING": (S.RUNNING, R.NONE),
    "SIGNALING": (S.RUNNING, R.NONE),
    "UPDATE_DB": (S.RUNNING, R.NONE),
    "SUSPENDED": (S.PAUSED, R.SUSPENDED),
    "STOPPED": (S.PAUSED, R.SUSPENDED),
    "COMPLETING": (S.FINALIZING, R.NONE),
    "STAGE_OUT": (S.FINALIZING, R.NONE),
    "COMPLETED": (S.COMPLETED, R.NONE),
    "FAILED": (S.FAILED, R.BAD_EXIT),
    "OUT_OF_MEMORY": (S.FAILED, R.OUT_OF_MEMORY),
    "TIMEOUT": (S.FAILED, R.TIMEOUT),
    "DEADLINE": (S.FAILED, R.DEADLINE),
    "NODE_FAIL": (S.FAILED, R.NODE_FAIL),
    "BOOT_FAIL": (S.FAILED, R.BOOT_FAIL),
    "PREEMPTED": (S.FAILED, R.PREEMPTED),
    "REVOKED": (S.FAILED, R.REVOKED),
    "CANCELLED": (S.CANCELED, R.CANCELED),
}

SLURM_ABBREVIATIONS = {
    "BF": "BOOT_FAIL", "CA": "CANCELLED", "CD": "COMPLETED", "CF": "CONFIGURING", "CG": "COMPLETING",
    "DL": "DEADLINE", "F": "FAILED", "NF": "NODE_FAIL", "OOM": "OUT_OF_MEMORY", "PD": "PENDING",
    "PR": "PREEMPTED", "R": "RUNNING", "RD": "RESV_DEL_HOLD", "RF": "REQUEUE_FED", "RH": "REQUEUE_HOLD",
    "RQ": "REQUEUED", "RS": "RESIZING", "RV": "REVOKED", "S": "SUSPENDED", "SE": "SPECIAL_EXIT",
    "SI": "SIGNALING", "SO": "STAGE_OUT", "ST": "STOPPED", "TO": "TIMEOUT",
}  # fmt: skip


def from_slurm(word: str) -> tuple[RunState, Reason] | None:
    """State and reason for a state word of Slurm's, as squeue or sacct print it.

    Suffixes are dropped (``CANCELLED by 0``, ``CANCELLED+``). None for a word not in the table: an
    unknown word tells nothing, and so never ends a run.
    """
    name = word.strip().split(" ")[0].rstrip("+*").upper()
    return SLURM_STATES.get(SLURM_ABBREVIATIONS.get(name, name))
