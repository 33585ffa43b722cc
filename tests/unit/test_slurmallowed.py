"""What Slurm would have taken, from its own words; the refusals and answers are those of a real one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.schedulers.slurmallowed import SHOWN, question

ACCOUNT = "Invalid account or account/partition combination specified"
PARTITION = (
    "PartitionName={0} AllowGroups=ALL AllowAccounts={1} AllowQos=ALL Default=YES MaxNodes=UNLIMITED"
    " MaxTime={2} Nodes=node[1-3] State={3} TotalCPUs=12 TotalNodes=3 TRES=cpu=12,mem=12000M\n"
)
LINES: list[tuple[str, str, str, str]] = [
    (
        ACCOUNT,
        "sacctmgr",
        "lab||high,normal\nother|gpu|normal\nlab||high,normal\n",
        "You may use: account lab (QOS: high, normal); account other on partition gpu (QOS: normal).",
    ),
    ("Invalid qos specification", "sacctmgr", "lab||\n", "You may use: account lab."),
    (
        "invalid partition specified: nowhere; Invalid partition name specified",
        "scontrol",
        PARTITION.format("main", "ALL", "1-00:00:00", "UP")
        + PARTITION.format("old", "lab", "UNLIMITED", "DOWN"),
        "The partitions there are: main (time 1-00:00:00, 3 nodes); old (3 nodes, accounts lab, DOWN).",
    ),
    (
        "Requested node configuration is not available",
        "sinfo",
        "main|3|4|4000|gpu:fake:2\nshort|3|4|4000|(null)\n",
        "There are: main (3 nodes of 4 CPUs, 4000M, gpu:fake:2); short (3 nodes of 4 CPUs, 4000M).",
    ),
    (
        "Invalid job array specification",
        "scontrol",
        "MaxAge = 1\nMaxArraySize            = 1001\n",
        "The highest index that an array may have here is 1000.",
    ),
]


@pytest.mark.parametrize(("refusal", "program", "answer", "words"), LINES)
def test_what_is_allowed(refusal: str, program: str, answer: str, words: str) -> None:
    asked = question(f"Slurm refused the job: {refusal}", "alice")
    assert asked is not None
    argv, read = asked
    assert argv[0] == program
    assert read(answer) == words
    assert read("") == read("\n|\n") == ""


def test_one_users_accounts_are_asked_for() -> None:
    asked = question(ACCOUNT, "alice")
    assert asked is not None and "user=alice" in asked[0]


@pytest.mark.parametrize(
    ("refusal", "program"),
    [
        ("User's group not permitted to use this partition", "scontrol"),
        ("Job's account not permitted to use this partition (main allows lab not other)", "scontrol"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "scontrol"),
        ("Invalid feature specification", None),
        ("Slurm's controller cannot be reached", None),
    ],
)
def test_which_command_knows(refusal: str, program: str | None) -> None:
    asked = question(refusal, "alice")
    assert (None if asked is None else asked[0][0]) == program


def test_a_large_site_is_cut() -> None:
    asked = question("Invalid partition name specified", "alice")
    assert asked is not None
    words = asked[1]("".join(PARTITION.format(f"p{n}", "ALL", "UNLIMITED", "UP") for n in range(SHOWN + 5)))
    assert f"p{SHOWN - 1}" in words and f"p{SHOWN}" not in words and "and 5 more" in words


@given(st.sampled_from(LINES), st.text())
def test_no_answer_makes_a_reader_fail(case: Any, text: str) -> None:
    asked = question(case[0], "alice")
    assert asked is not None
    asked[1](text)
    asked[1](case[2] + text)
