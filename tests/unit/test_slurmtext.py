"""Slurm's text, read: torn, with banners, with names that hold the separator (faults 1, 6, 7, 15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.schedulers.base import JobFacts
from hpcrun.schedulers.slurmtext import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    answer_lost,
    complaint,
    parse_job_id,
    parse_sacct,
    parse_squeue,
    utc,
    was_not_sent,
)
from hpcrun.states import from_slurm

A, B = "a_20260131-120000_aaaaaaaa", "b_20260131-120000_bbbbbbbb"


@pytest.mark.parametrize(
    ("said", "job_id"),
    [
        ("4711\n", "4711"),
        ("4711;cluster-2.site\n", "4711"),
        ("  4711  \r\n", "4711"),
        ("Welcome to the cluster!\n\n4711\nMaintenance on 2026-02-01.\n", "4711"),
        ("", None),
        ("Submitted batch job 4711\n", None),
        ("4711;\n", None),
        ("4711;a;b\n", None),
        ("4711_5\n", None),
        ("-4711\n", None),
        ("४७\n", None),
        ("2026\n4711\n", None),
        ("4711\n4712\n", None),
    ],
)
def test_the_job_id_in_sbatchs_answer(said: str, job_id: str | None) -> None:
    assert parse_job_id(said) == job_id


LOST = [
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
    "sbatch: error: slurm_receive_msg: Connection reset by peer",
    "slurm_msg_recvfrom: Connection timed out",
    "sbatch: error: Batch job submission failed: Message receive failure",
]
NOT_SENT = [
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "sbatch: error: slurm_persist_conn_open: Connection refused",
    "sbatch: error: Unable to resolve \"ctl\": Unknown host",
]  # fmt: skip
NOT_SAID = "|" * (SACCT_FORMAT.count(",") - 7)
"""What a job took, where sacct has no word for any of it."""

REFUSED = [
    ("Invalid account or account/partition combination specified", "sacctmgr show associations"),
    ("invalid partition specified: gpuu", "sinfo -s"),
    ("Invalid qos specification", "sacctmgr show associations"),
    ("Invalid generic resource (gres) specification", "scheduler.gpu_directive"),
    ("Invalid feature specification", "sinfo -o '%P %f'"),
    ("Requested time limit is invalid (missing or exceeds some limit)", "resources.time"),
    ("Requested node configuration is not available", "sinfo"),
    ("More processors requested than permitted", "sinfo"),
    ("Invalid job array specification", "MaxArraySize"),
    ("Job violates accounting/QOS policy (job submit limit)", "sacctmgr show qos"),
    ("Batch script contains DOS line breaks (\\r\\n)", "dos2unix"),
    ("Pathname of a file, directory or other parameter too long", "4 MB"),
    ("Requested reservation is invalid / Invalid reservation", "scontrol show reservation"),
    ("Access/permission denied", "partition"),
    ("Something nobody has seen before", None),
]  # fmt: skip


@pytest.mark.parametrize("said", LOST)
def test_after_these_words_the_job_may_be_queued(said: str) -> None:
    assert answer_lost(said)
    assert not was_not_sent(said)


@pytest.mark.parametrize("said", NOT_SENT)
def test_after_these_words_it_certainly_is_not(said: str) -> None:
    assert was_not_sent(said)
    assert not answer_lost(said)
    assert not answer_lost(f"{LOST[0]}\n{said}")


@pytest.mark.parametrize(("said", "hint"), REFUSED)
def test_a_refusal_is_none_of_both_and_comes_with_slurms_words_and_a_hint(
    said: str, hint: str | None
) -> None:
    assert not answer_lost(said) and not was_not_sent(said)
    words, found = complaint(f"sbatch: error: {said}\nsbatch: error: {said}\n\nsbatch: error: it failed\n")
    assert words == f"{said}; it failed"
    assert found is hint is None or (found is not None and hint is not None and hint in found)


def test_a_refusal_without_a_word() -> None:
    assert complaint("  \n") == ("sbatch gave no reason", None)


def test_times() -> None:
    assert utc(" 2026-01-31T12:00:00 ") == "2026-01-31T12:00:00Z"
    for nothing in ("", "N/A", "Unknown", "None", "(null)", "NONE", "12:00", "2026-01-31"):
        assert utc(nothing) is None


def test_what_squeue_is_asked_for_ends_with_the_name() -> None:
    assert SQUEUE_FORMAT.endswith("|%j")
    assert SACCT_FORMAT.endswith(",JobName")


def test_squeue() -> None:
    said = (
        f"7|PENDING|2026-01-31T12:00:00|2026-02-01T00:00:00|Resources||{A}\n"
        f"8|RUNNING|2026-01-31T12:00:01|2026-01-31T12:00:05|None|n[1-2]|{B}\n"
        "9|RUNNING|2026-01-31T12:00:01|2026-01-31T12:00:05|None|n3|somebody's | own | job\n"
    )
    assert parse_squeue(said, [A, B]) == {
        A: JobFacts(
            "7",
            "PENDING",
            why="Resources",
            submitted="2026-01-31T12:00:00Z",
            expected="2026-02-01T00:00:00Z",
        ),
        B: JobFacts(
            "8",
            "RUNNING",
            submitted="2026-01-31T12:00:01Z",
            started="2026-01-31T12:00:05Z",
            nodes="n[1-2]",
        ),
    }
    assert set(parse_squeue(said, [B])) == {B}
    assert parse_squeue("", [A]) == {}
    assert parse_squeue(said, []) == {}


def test_a_name_with_the_separator_in_it_is_one_name() -> None:
    said = "9|RUNNING|t|t|None|n3|a | b|c\n"
    assert parse_squeue(said, ["a | b|c"])["a | b|c"].job_id == "9"
    assert parse_squeue(f"9|RUNNING|t|t|None|n3|x|{A}\n", [A]) == {}
    assert parse_sacct(f"9|RUNNING|0:0|t|t|t|n3{NOT_SAID}|x|{A}\n", [A]) == {}


def test_torn_lines_say_nothing() -> None:
    line = f"7|PENDING|2026-01-31T12:00:00|N/A|Resources||{A}"
    for cut in range(len(line)):
        assert parse_squeue(line[:cut], [A]) == {}
    line = f"7|COMPLETED|0:0|2026-01-31T12:00:00|2026-01-31T12:00:00|2026-01-31T12:00:00|n1{NOT_SAID}|{A}"
    for cut in range(len(line)):
        assert parse_sacct(line[:cut], [A]) == {}


def test_of_two_jobs_with_the_name_the_first_counts() -> None:
    squeue = [f"{n}|RUNNING|t|t|None|n{n}|{A}" for n in (10, 9, 11)]
    assert parse_squeue("\n".join(squeue), [A])[A].job_id == "9"
    sacct = [f"{n}|COMPLETED|0:0|t|t|t|n{n}{NOT_SAID}|{A}" for n in (10, 9, 11)]
    assert parse_sacct("\n".join(sacct), [A])[A].job_id == "9"


def test_ids_of_array_tasks_are_kept_as_they_are() -> None:
    said = f"123_[0-5:2%3]|PENDING|t|t|None||{A}\n123_4|RUNNING|t|t|None|n1|{B}\n"
    found = parse_squeue(said, [A, B])
    assert (found[A].job_id, found[B].job_id) == ("123_[0-5:2%3]", "123_4")


def test_sacct() -> None:
    said = (
        f"7|CANCELLED by 0|0:15|2026-01-31T12:00:00|Unknown|2026-01-31T12:01:00|None assigned{NOT_SAID}|{A}\n"
        f"8|FAILED|3:0|2026-01-31T12:00:00|2026-01-31T12:00:02|2026-01-31T12:01:00|n1{NOT_SAID}|{B}\n"
    )
    found = parse_sacct(said, [A, B])
    assert found[A] == JobFacts(
        "7",
        "CANCELLED by 0",
        exit_code=0,
        signal=15,
        submitted="2026-01-31T12:00:00Z",
        ended="2026-01-31T12:01:00Z",
    )
    assert (found[B].exit_code, found[B].signal, found[B].nodes) == (3, None, "n1")
    assert from_slurm(found[A].word) == from_slurm("CANCELLED")


@pytest.mark.parametrize("code", ["", ":", "0:", "x:y", "²:³", f"{'9' * 5000}:0", "-1:0"])
def test_an_exit_code_that_is_none(code: str) -> None:
    facts = parse_sacct(f"7|FAILED|{code}|t|t|t|n{NOT_SAID}|{A}", [A])[A]
    assert facts.exit_code in (None, 0) and facts.signal is None


@given(
    st.text(),
    st.sampled_from(["", f"|{A}", f"||||||{A}", f"|||||||{NOT_SAID}{A}", f".0|||||||{NOT_SAID}{A}"]),
)
def test_no_text_makes_a_parser_fail(text: str, tail: str) -> None:
    parse_job_id(text)
    complaint(text)
    for facts in (parse_squeue(text + tail, [A]), parse_sacct(text + tail, [A])):
        assert set(facts) <= {A}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=7, max_size=7))
def test_a_word_that_slurm_does_not_have_yet_is_handed_on_and_means_nothing(fields: list[str]) -> None:
    clean = [field.replace("|", "").replace("\n", "") for field in fields]
    clean[0] = clean[0].replace(".", "")  # 7.0 is a step's
    word = f"NEW_{clean[1].strip()}"
    line = "|".join([clean[0].strip(), word, *clean[2:]]) + f"{NOT_SAID}|{A}"
    facts = parse_sacct(line, [A])
    if "\n".join(line.splitlines()) == line:  # nothing in it that ends a line
        assert facts[A].word == word.strip()
        assert from_slurm(word) is None


def test_of_two_jobs_of_one_name_the_one_that_is_meant_counts() -> None:
    queue = "7|COMPLETED|N/A|N/A|None||run\n9|RUNNING|N/A|N/A|None|node1|run\n11|PENDING|N/A|N/A|None||run\n"
    assert parse_squeue(queue, ["run"])["run"].job_id == "7"
    assert parse_squeue(queue, {"run": None})["run"].job_id == "7"
    assert parse_squeue(queue, {"run": "9"})["run"].word == "RUNNING"
    assert parse_squeue(queue, {"run": "11"})["run"].word == "PENDING"
    accounts = f"9|FAILED|102:0||||None assigned{NOT_SAID}|run\n7|COMPLETED|0:0||||node1{NOT_SAID}|run\n"
    assert parse_sacct(accounts, {"run": "9"})["run"].exit_code == 102
    assert parse_sacct(accounts, {"run": "7"})["run"].exit_code == 0


def test_what_a_test_of_a_submission_complains_of() -> None:
    """sbatch --test-only begins its sentence otherwise; the words and the hint are the same."""
    words, hint = complaint("allocation failure: Invalid qos specification\n")
    assert words == "Invalid qos specification" and "sacctmgr" in (hint or "")


TIMES = "2026-01-31T12:00:00|2026-01-31T12:00:02|2026-01-31T12:01:00"


def test_what_a_job_took_is_told_by_its_steps() -> None:
    """As Slurm 22.05 and 24.11 print it. The job's line has the time, the steps' lines have the memory:
    of the job that is meant, whatever its steps are called, and of no other."""
    said = (
        f"33.0|FAILED|1:0|{TIMES}|node1|1|00:00.003|0|2||9G|mem=9G|false\n"
        f"3|FAILED|1:0|{TIMES}|node[1-2]|2|1-00:00:05.625|58|4|600M|||{A}\n"
        f"3.batch|FAILED|1:0|{TIMES}|node1|1|00:00.025|58|1||11020K|cpu=00:00:00,mem=11020K,vmem=1K|batch\n"
        f"3.0|COMPLETED|0:0|{TIMES}|node[1-2]|2|00:05.625|5|2||131392K|cpu=00:00:04,mem=262536K,pages=4|{B}\n"
        f"3.1|FAILED|1:0|{TIMES}|node[1-2]|2|00:00.003|0|2|||energy=0|a|b\n"
        f"3.2|FAILED|1:0|{TIMES}|node1|1|00:00.003|0|2||1K|mem=1K|false\n"
    )
    [(name, found)] = parse_sacct(said, [A, B]).items()
    assert (name, found.job_id, found.exit_code, found.nodes) == (A, "3", 1, "node[1-2]")
    assert found.usage == {
        "elapsed_seconds": 58,
        "cpu_seconds": 86405.625,
        "allocated_cpus": 4,
        "allocated_nodes": 2,
        "requested_memory_bytes": 600 * 2**20,
        "memory_bytes": 262536 * 2**10,
        "max_rss_bytes": 131392 * 2**10,
    }


def test_what_nobody_measured_is_not_there() -> None:
    ended = f"3|FAILED|1:0|{TIMES}|node1{NOT_SAID}|{A}\n"
    assert parse_sacct(ended, [A])[A].usage == {}
    odd = f"3|FAILED|1:0|{TIMES}|node1|?|1:2|x|-1|0|1.5|mem=|{A}\n"
    odd += f"3.0|F|0:0|{TIMES}|n|1|1|1|1||1.50G|mem=\u0663K|x"
    assert parse_sacct(odd, [A])[A].usage == {"cpu_seconds": 62.0, "max_rss_bytes": 3 * 2**29}
    running = ended.replace("|2026-01-31T12:01:00|", "|Unknown|")
    assert parse_sacct(running, [A])[A].usage is None
