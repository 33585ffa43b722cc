"""What Slurm refuses fails once, with Slurm's own words and what to do (fault 7)."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Login, calls

pytestmark = pytest.mark.cluster

NOTING = '#!/bin/bash\necho call >>/home/alice/calls\nexec /usr/bin/sbatch "$@"\n'


@pytest.mark.parametrize(
    ("setting", "words", "hint"),
    [
        (
            "resources.partition=nowhere",
            "invalid partition specified: nowhere",
            "main (time 1-00:00:00, 3 nodes)",
        ),
        ("resources.account=nobody", "Invalid account", "account lab (QOS: high, normal)"),
        ("resources.qos=golden", "Invalid qos", "account lab (QOS: high, normal)"),
        ("resources.nodes=1000", "node", "main (3 nodes of 4 CPUs"),
        ("resources.constraint=quantum", "Invalid feature", "sinfo -o '%P %f'"),
        ("resources.gpus_per_node=h900:1", "node configuration is not available", "gpu:fake:2"),
        ("resources.sbatch={begin: yesteryear}", "Invalid time specification", ""),
    ],
)
def test_refused(login: Login, setting: str, words: str, hint: str) -> None:
    environment = login.put_on_path("sbatch", NOTING)
    done = login.hpcrun("submit", "run.yaml", "--set", setting, check=False, env=environment)
    assert done.returncode == 6
    assert words.lower() in done.stderr.lower()
    assert hint in done.stderr
    assert calls(login.cluster.home() / "calls") == 1
    [record] = login.runs()
    assert (record["state"], record["reason"]) == ("Failed", "Rejected")
    assert words.lower() in record["message"].lower()
    assert login.starts() == []


def test_a_script_too_large(login: Login) -> None:
    lines = "".join(f"    : {'y' * 1000}\n" for _ in range(400))
    login.cluster.write(
        f"{login.project}/large.yaml", f"command: [hostname]\nenvironment:\n  setup: |\n{lines}"
    )
    # A configuration may be a megabyte; Slurm's own limit, 4 MB unless a site says otherwise, is lowered.
    login.cluster.reconfigure({"SchedulerParameters": "max_script_size=300000"})
    done = login.hpcrun("submit", "large.yaml", "-t", "virtual", check=False)
    assert done.returncode == 6
    assert "script is too large for Slurm" in done.stderr
    assert login.runs()[0]["state"] == "Failed"


def test_dos_line_ends_do_not_reach_slurm(login: Login) -> None:
    """sbatch refuses a script that holds any: those of templates and setup lines become Unix ones."""
    login.hpcrun("init")
    login.cluster.write(
        f"{login.project}/.hpcrun/templates/slurm.sh.j2",
        '{% extends "hpcrun/slurm.sh.j2" %}\r\n{% block claim %}\r\n'
        ": mine\r\n{{ super() }}\r\n{% endblock %}\r\n",
    )
    login.cluster.write(
        f"{login.project}/dos.yaml",
        "source_directory: src\r\nscript: train.py\r\n"
        'environment: {setup: "export A=1\\r\\nexport B=2\\r\\n"}\r\n',
    )
    login.hpcrun("submit", "dos.yaml", "-t", "virtual", "--wait")
    [record] = login.runs()
    script = (login.cluster.outside(record["run_dir"]) / "job.sh").read_bytes()
    assert b"\r" not in script
    assert b": mine\n" in script
    assert b"export A=1\nexport B=2\n" in script


def test_a_key_is_free_again_after_a_refusal(login: Login) -> None:
    bad = login.hpcrun("submit", "run.yaml", "--key", "k", "-A", "nobody", check=False)
    assert bad.returncode == 6
    login.hpcrun("submit", "run.yaml", "--key", "k", "--wait")
    login.hpcrun("submit", "run.yaml", "--key", "k", "--wait")
    assert sorted(r["state"] for r in login.runs()) == ["Completed", "Failed"]
    assert len(login.starts()) == 1
