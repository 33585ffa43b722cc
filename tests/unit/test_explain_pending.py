"""Every reason that squeue has a word for, in words."""

from __future__ import annotations

import pytest

from hpcrun.explain.facts import Facts
from hpcrun.explain.pending import REASONS, reason_words
from hpcrun.explain.rules import explain
from hpcrun.states import ACTIVE, RunState

RUN = "cifar_20260131-120000_abcdefgh"

# Every name that squeue can print as the reason of a job that waits, of Slurm 22.05 to 26.05: what its page
# JOB REASON CODES lists, and what its libraries have besides.
ALL = """
AccountingPolicy AccountNotAllowed AssocGrpBB AssocGrpBBMinutes AssocGrpBBRunMinutes AssocGrpBilling
AssocGrpBillingMinutes AssocGrpBillingRunMinutes AssocGrpCpuLimit AssocGrpCPUMinutesLimit
AssocGrpCPURunMinutesLimit AssocGrpEnergy AssocGrpEnergyMinutes AssocGrpEnergyRunMinutes AssocGrpGRES
AssocGrpGRESMinutes AssocGrpGRESRunMinutes AssocGrpJobsLimit AssocGrpLicense AssocGrpLicenseMinutes
AssocGrpLicenseRunMinutes AssocGrpMemLimit AssocGrpMemMinutes AssocGrpMemRunMinutes AssocGrpNodeLimit
AssocGrpNodeMinutes AssocGrpNodeRunMinutes AssocGrpSubmitJobsLimit AssocGrpUnknown AssocGrpUnknownMinutes
AssocGrpUnknownRunMinutes AssocGrpWallLimit AssociationJobLimit AssociationResourceLimit AssociationTimeLimit
AssocMaxBBMinutesPerJob AssocMaxBBPerJob AssocMaxBBPerNode AssocMaxBillingMinutesPerJob AssocMaxBillingPerJob
AssocMaxBillingPerNode AssocMaxCpuMinutesPerJobLimit AssocMaxCpuPerJobLimit AssocMaxCpuPerNode
AssocMaxEnergyMinutesPerJob AssocMaxEnergyPerJob AssocMaxEnergyPerNode AssocMaxGRESMinutesPerJob
AssocMaxGRESPerJob AssocMaxGRESPerNode AssocMaxJobsLimit AssocMaxLicenseMinutesPerJob AssocMaxLicensePerJob
AssocMaxMemMinutesPerJob AssocMaxMemPerJob AssocMaxMemPerNode AssocMaxNodeMinutesPerJob
AssocMaxNodePerJobLimit AssocMaxSubmitJobLimit AssocMaxUnknownMinutesPerJob AssocMaxUnknownPerJob
AssocMaxUnknownPerNode AssocMaxWallDurationPerJobLimit BadConstraints BeginTime BlockFreeAction BlockMaxError
BurstBufferOperation BurstBufferResources BurstBufferStageIn Cleaning Constraints DeadLine Dependency
DependencyNeverSatisfied FedJobLock FrontEndDown InactiveLimit InvalidAccount InvalidQOS JobArrayTaskLimit
JobHeldAdmin JobHeldUser JobHoldMaxRequeue JobLaunchFailure Licenses MaxBBPerAccount MaxBBRunMinsPerAccount
MaxBBRunMinsPerUser MaxBillingPerAccount MaxBillingRunMinsPerAccount MaxBillingRunMinsPerUser MaxCpuPerAccount
MaxCpuRunMinsPerAccount MaxCpuRunMinsPerUser MaxEnergyPerAccount MaxEnergyRunMinsPerAccount
MaxEnergyRunMinsPerUser MaxGRESPerAccount MaxGRESRunMinsPerAccount MaxGRESRunMinsPerUser MaxJobsPerAccount
MaxLicensePerAccount MaxLicenseRunMinsPerAccount MaxLicenseRunMinsPerUser MaxMemoryPerAccount
MaxMemoryRunMinsPerAccount MaxMemoryRunMinsPerUser MaxMemPerLimit MaxNodePerAccount MaxNodeRunMinsPerAccount
MaxNodeRunMinsPerUser MaxPoweredUpNodes MaxSubmitJobsPerAccount MaxUnknownPerAccount
MaxUnknownRunMinsPerAccount MaxUnknownRunMinsPerUser MpiPortsBusy NodeDown None NonZeroExitCode OutOfMemory
PartitionConfig PartitionDown PartitionInactive PartitionNodeLimit PartitionTimeLimit PowerNotAvail
PowerReserved Priority Prolog QOSGrpBB QOSGrpBBMinutes QOSGrpBBRunMinutes QOSGrpBilling QOSGrpBillingMinutes
QOSGrpBillingRunMinutes QOSGrpCpuLimit QOSGrpCPUMinutesLimit QOSGrpCPURunMinutesLimit QOSGrpEnergy
QOSGrpEnergyMinutes QOSGrpEnergyRunMinutes QOSGrpGRES QOSGrpGRESMinutes QOSGrpGRESRunMinutes QOSGrpJobsLimit
QOSGrpLicense QOSGrpLicenseMinutes QOSGrpLicenseRunMinutes QOSGrpMemLimit QOSGrpMemoryMinutes
QOSGrpMemoryRunMinutes QOSGrpNodeLimit QOSGrpNodeMinutes QOSGrpNodeRunMinutes QOSGrpSubmitJobsLimit
QOSGrpUnknown QOSGrpUnknownMinutes QOSGrpUnknownRunMinutes QOSGrpWallLimit QOSJobLimit QOSMaxBBMinutesPerJob
QOSMaxBBPerJob QOSMaxBBPerNode QOSMaxBBPerUser QOSMaxBillingMinutesPerJob QOSMaxBillingPerJob
QOSMaxBillingPerNode QOSMaxBillingPerUser QOSMaxCpuMinutesPerJobLimit QOSMaxCpuPerJobLimit QOSMaxCpuPerNode
QOSMaxCpuPerUserLimit QOSMaxEnergyMinutesPerJob QOSMaxEnergyPerJob QOSMaxEnergyPerNode QOSMaxEnergyPerUser
QOSMaxGRESMinutesPerJob QOSMaxGRESPerJob QOSMaxGRESPerNode QOSMaxGRESPerUser QOSMaxJobsPerUserLimit
QOSMaxLicenseMinutesPerJob QOSMaxLicensePerJob QOSMaxLicensePerUser QOSMaxMemoryMinutesPerJob
QOSMaxMemoryPerJob QOSMaxMemoryPerNode QOSMaxMemoryPerUser QOSMaxNodeMinutesPerJob QOSMaxNodePerJobLimit
QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit QOSMaxUnknownMinutesPerJob QOSMaxUnknownPerJob
QOSMaxUnknownPerNode QOSMaxUnknownPerUser QOSMaxWallDurationPerJobLimit QOSMinBB QOSMinBilling
QOSMinCpuNotSatisfied QOSMinEnergy QOSMinGRES QOSMinLicense QOSMinMemory QOSMinNode QOSMinUnknown
QOSNotAllowed QOSResourceLimit QOSTimeLimit QOSUsageThreshold RaisedSignal ReqNodeNotAvail Reservation
ReservationDeleted ReservationInvalid Resources SchedDefer SystemFailure TimeLimit
"""


@pytest.mark.parametrize("word", ALL.split())
def test_every_reason_has_words(word: str) -> None:
    words, _ = reason_words(word)
    assert words.endswith(".") and "Slurm says" not in words and word not in words.split()


def test_limits_are_told_apart() -> None:
    assert reason_words("QOSMaxGRESPerUser")[0] == (
        "The limit of GPUs or other GRES that its QOS sets for one user is reached."
    )
    assert reason_words("AssocGrpCpuLimit")[0] == (
        "All jobs of your account together have reached its limit of CPUs."
    )
    assert reason_words("AssocGrpGRESRunMinutes")[0].endswith("limit of GPUs or other GRES times minutes.")
    assert reason_words("QOSMaxWallDurationPerJobLimit")[0] == (
        "It asks for more time than its QOS allows for one job."
    )
    assert reason_words("QOSMinMemory")[0] == "It asks for less memory than its QOS wants at least."


def test_more_behind_the_word() -> None:
    assert reason_words("ReqNodeNotAvail, UnavailableNodes:node[1-2]") == REASONS["ReqNodeNotAvail"]


@pytest.mark.parametrize("word", ["NewInSlurm30", "{job}", "", "(null)", "x" * 10_000])
def test_an_unknown_word_is_quoted(word: str) -> None:
    words, help_ = reason_words(word)
    assert word[:300] in words and len(words) < 400 and help_
    found = explain(Facts(RUN, RunState.QUEUED, reason=word, job_id="77"))
    assert word[:300] in found.words


def test_what_would_help_names_the_job() -> None:
    found = explain(Facts(RUN, RunState.QUEUED, reason="JobHeldUser", job_id="77"))
    assert (found.cause, found.words) == ("Waiting", "The run waits. It is held, by you.")
    assert (found.evidence, found.next) == (["squeue: JobHeldUser"], ["Release it: scontrol release 77"])
    gone = explain(Facts(RUN, RunState.QUEUED, reason="InvalidAccount", job_id="77"))
    assert gone.next[-1].endswith("hpcrun cancel abcdefgh")


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_every_state_that_is_not_final_has_words(state: RunState) -> None:
    found = explain(Facts(RUN, state, elapsed=60.0, time_limit=600))
    assert (found.cause, found.words.endswith(".")) == (state.value, True)
