"""Hostile names, arguments, paths and variables come through a real Slurm untouched (fault 34)."""

from __future__ import annotations

import json

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import Login

pytestmark = pytest.mark.cluster

HOSTILE = [
    "$(touch /home/alice/canary)",
    "`touch /home/alice/canary`",
    "'; touch /home/alice/canary; '",
    '"; touch /home/alice/canary; "',
    "two\nlines\n#SBATCH --nodes=9",
    "--nodes=9",
    "DOS\r\nline ends \\ and 'quotes'",
    "$HOME ${IFS} %j %x !! ~ * ? [a] {b,c} \\ \\n \t|&<>#",
    "ünï—雪",
    "",
]

SHOW = """\
import json, os, sys
seen = {"argv": sys.argv[1:], "variable": os.environ["HOSTILE"], "cwd": os.getcwd()}
json.dump(seen, open("outputs/o.json", "w"))
"""


def test_all_at_once(login: Login, cluster: Cluster) -> None:
    folder = '/home/alice/it\'s a "weird" $HOME `x`; %j ünï & (dir)'
    cluster.write(f"{folder}/src/--odd $(name).py", SHOW)
    text = json.dumps(
        {
            "experiment": "hostile",
            "source_directory": "src",
            "script": "--odd $(name).py",
            "arguments": HOSTILE,
            "compute_target": "virtual",
            "display_name": "$(touch /home/alice/canary)",
            "environment_variables": {"HOSTILE": "\n".join(HOSTILE)},
            "tags": {"$(touch /home/alice/canary)": "`touch /home/alice/canary`"},
            "resources": {"sbatch": {"comment": "$(touch /home/alice/canary) \"'; \\ %j"}},
        }
    )
    cluster.write(f"{folder}/run.yaml", text)
    done = cluster.run(
        "login", login.argv("submit", "run.yaml", "--wait", "--json"), cwd=folder, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = cluster.run("login", login.argv("show", "@-1", "--json"), cwd=folder).stdout
    record = json.loads(shown)
    assert record["state"] == "Completed"
    outputs = json.loads((cluster.outside(record["run_dir"]) / "code/outputs/o.json").read_text())
    assert outputs["argv"] == HOSTILE
    assert outputs["variable"] == "\n".join(HOSTILE)
    assert outputs["cwd"] == f"{record['run_dir']}/code"
    assert not (cluster.home() / "canary").exists()


def test_what_slurm_cannot_carry_is_refused(login: Login, cluster: Cluster) -> None:
    """A line break in a directive would be a new directive; a backslash in a log's path is misread."""
    broken = login.hpcrun("submit", "run.yaml", "--set", 'resources.account="a\\n#SBATCH -N 9"', check=False)
    assert broken.returncode == 3
    assert "resources.account" in broken.stderr
    folder = "/home/alice/back\\slash"
    cluster.write(f"{folder}/src/train.py", "")
    cluster.write(f"{folder}/run.yaml", "source_directory: src\nscript: train.py\ncompute_target: virtual\n")
    refused = cluster.run("login", login.argv("submit", "run.yaml"), cwd=folder, check=False)
    assert refused.returncode == 3
    assert "backslash" in refused.stderr
