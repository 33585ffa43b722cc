"""What a site says of itself: golden cases from real Slurms, and whatever else a machine may say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.check.limits import Limits
from hpcrun.engine.doctor import read_text
from hpcrun.engine.probe import ask, facts_of
from hpcrun.errors import CommandError
from hpcrun.models.site import Connection
from hpcrun.probe.answers import MOST, Answer, read_answers, script
from hpcrun.probe.compare import compare
from hpcrun.probe.describe import (
    choose_mpi,
    choose_root,
    describe,
    login_pattern,
    plain,
    short_time,
    unfinished,
)
from hpcrun.probe.facts import Facts, Folder, Offered, read_mpi
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell

DATA = Path(__file__).resolve().parent.parent / "data" / "probe"
SAID = sorted(path.stem for path in DATA.glob("*.txt"))
REMOTE = Connection(type="ssh", host="login.cluster.org")
UPDATE = os.environ.get("HPCRUN_UPDATE_DOCS") == "1"


def said(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def described(facts: Facts, connection: Connection = REMOTE, name: str = "virtual") -> str:
    return describe(name, connection, facts, date="2026-11-23", version="1.2.3")


@pytest.mark.parametrize(
    ("suite", "version", "mpi", "chosen"),
    [
        ("bookworm", "22.05.8", ("pmix", "none", "cray_shasta", "pmi2", "pmix_v4"), "pmix"),
        ("trixie", "24.11.5", ("none", "pmix", "cray_shasta", "pmi2", "pmix_v5"), "pmix"),
        ("sid", "26.05.5", ("none", "cray_shasta", "pmi2"), "pmi2"),
    ],
)
def test_what_three_slurms_say(suite: str, version: str, mpi: tuple[str, ...], chosen: str) -> None:
    """Their words, as the virtual clusters said them."""
    facts = facts_of(said(suite))
    assert (facts.whole, facts.answered, facts.slurm, facts.cluster) == (True, True, version, "virtual")
    assert (facts.user, facts.hostname, facts.default_partition) == ("alice", "login", "main")
    assert (facts.mpi, choose_mpi(facts)[0]) == (mpi, chosen)
    assert (facts.accounting, facts.max_array_size, facts.sacct.ok) == (True, 1001, True)
    assert facts.accounts_known and [(a.name, a.qos) for a in facts.accounts] == [("lab", ("high", "normal"))]
    assert facts.default_account == "lab"
    limits = {name: (each.limits.time, each.limits.cpus) for name, each in facts.partitions.items()}
    assert limits == {"main": (86400, 4), "short": (600, 4), "preempt": (3600, 4)}
    assert facts.partitions["main"].limits.gpu_types == {"fake": 2}
    assert facts.partitions["main"].default_time == 600
    assert {"git", "rsync", "python", "bash"} <= set(facts.programs)
    assert ("apptainer" in facts.programs) == (suite != "bookworm")
    assert "module-git" in facts.modules and not facts.more_modules
    assert facts.folders["home"].there and facts.folders["home"].free


@pytest.mark.parametrize("suite", SAID)
def test_the_file_that_is_written(suite: str) -> None:
    """Byte for byte; HPCRUN_UPDATE_DOCS=1 writes the files anew."""
    text, golden = described(facts_of(said(suite))), DATA / f"{suite}.yaml"
    if UPDATE:
        golden.write_text(text)
    assert text == golden.read_text()
    site = read_text("virtual", text)
    assert site.root is not None and site.partitions
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_a_file_just_written_has_no_problem(suite: str) -> None:
    facts = facts_of(said(suite))
    found = compare(read_text("virtual", described(facts)), facts)
    assert [each for each in found if each.level in ("problem", "note") and each.code != "Root"] == []


def test_nothing_hostile_gets_into_the_file() -> None:
    """Names that are none are left out; what is told in remarks stays one line of them."""
    facts = facts_of(said("hostile"))
    assert list(facts.partitions) == ["main", "no", "1e3"]
    assert [each.name for each in facts.accounts] == ["lab"]
    assert facts.mpi == ("pmix", "none", "pmix_v5") and facts.user == "" and facts.default_account == ""
    site = read_text("virtual", described(facts))
    assert site.partitions["main"].max_time is None and site.partitions["main"].max_nodes is None
    assert site.default_account == "lab" and site.scheduler.mpi == "pmix"


_TEXT = st.text(max_size=60) | st.sampled_from(
    [
        "",
        "= x",
        ". 0",
        "- a",
        "a: b",
        "# c",
        "{",
        "*a",
        "&a b",
        "!!b",
        "'",
        '"',
        "\t",
        "\x85",
        "\u2028",
        "99" * 40,
    ]
)


@given(st.data())
def test_no_output_breaks_the_parser_or_the_file(data: st.DataObject) -> None:
    """Real answers with anything in place of any words of theirs."""
    lines = said(data.draw(st.sampled_from(SAID))).split("\n")
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(lines) - 1))
        words = lines[at].split(" ")
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(_TEXT)
        lines[at] = " ".join(words)
    facts = facts_of("\n".join(lines))
    text = described(facts)
    site = read_text("virtual", text)
    assert all(line.isprintable() for line in text.split("\n"))
    assert site.name == "virtual" and site.connection == Connection(
        type="ssh", host="login.cluster.org", login_nodes=site.connection.login_nodes,
        login_shell=site.connection.login_shell,
    )  # fmt: skip
    # The same for whoever reads YAML otherwise.
    assert yaml.safe_load(text).keys() <= {
        *("name", "description", "connection", "scheduler", "root", "default_partition", "default_account"),
        *("partitions", "conda", "apptainer"),
    }
    compare(site, facts, 1000.0)


@given(st.text())
def test_any_text_at_all(text: str) -> None:
    facts = facts_of(text)
    assert not facts.whole or "= end" in text
    read_text("virtual", described(facts))


@given(st.text())
def test_remarks_are_one_printable_line(text: str) -> None:
    assert plain(text).isprintable() and len(plain(text)) <= 600


def test_no_program_speaks_for_another() -> None:
    """What a program says stands behind a blank."""
    text = "= a\n = b\n . 0\nno line of it\n x\n. 3\n noise\n= b\n y\n. 0\n"
    assert read_answers(text) == {"a": [Answer(("= b", ". 0", "x"), 3)], "b": [Answer(("y",), 0)]}


def test_a_line_that_was_cut_off_is_left_out() -> None:
    """Half of a partition's line would tell of limits that it does not have."""
    line = " PartitionName=x MaxTime=1-00:00:00"
    text = "\n".join(["= a", *[line] * (MOST // (len(line) - 1))])[: MOST + len("= a\n") + MOST // len(line)]
    ((answer,),) = read_answers(f"{text}\n. 141\n").values()
    assert set(answer.lines) == {line[1:]} and not text.endswith(line)


@pytest.mark.parametrize(
    ("rc", "lines", "why"),
    [
        (124, ("half",), "it did not answer in time"),
        (1, ("first", "sinfo: error: no", ""), "sinfo: error: no"),
        (2, (), "it ended with exit code 2"),
    ],
)
def test_why_a_program_did_not_answer(rc: int, lines: tuple[str, ...], why: str) -> None:
    assert Answer(lines, rc).why == why


@pytest.mark.parametrize(
    ("hostname", "pattern"),
    [
        ("login1", "login*"),
        ("int4.snellius.surf.nl", "int*.snellius.surf.nl"),
        ("login", "login"),
        ("n1", "n1"),
        ("uan-02", "uan-*"),
        ("localhost", ""),
        ("localhost.localdomain", ""),
    ],
)
def test_which_machines_are_login_nodes(hostname: str, pattern: str) -> None:
    """A pattern that fits no more than it must: with too short a stem it is the name itself."""
    assert login_pattern(hostname) == pattern


@pytest.mark.parametrize(
    ("mpi", "own", "chosen"),
    [
        (("none", "pmix", "pmi2"), "none", "pmix"),
        (("none", "pmi2"), "pmi2", "pmi2"),
        (("none", "pmix_v3", "pmix_v4"), "none", "pmix_v3"),
        (("cray_shasta", "pmi2"), "cray_shasta", "default"),
        (("none",), "none", "default"),
        ((), "", "default"),
        (("openmpi",), "openmpi", "default"),
    ],
)
def test_the_plug_in_for_mpi(mpi: tuple[str, ...], own: str, chosen: str) -> None:
    assert choose_mpi(Facts(mpi=mpi, config={"MpiDefault": own} if own else {}))[0] == chosen


def test_the_list_of_plug_ins_of_an_old_srun() -> None:
    """Before 22.05 each line began with the program's name."""
    lines = ["srun: MPI types are...", "srun: none", "srun: pmi2", "srun: pmix_v3"]
    assert read_mpi(lines) == ("none", "pmi2", "pmix_v3")


LUSTRE = Folder("/scratch/alice", True, True, "lustre", "1@o2ib:/fs", 1000, 500)
OWN = Folder("/scratch/alice", True, True, "xfs", "/dev/sda", 1000, 500)
HOME = Folder("/home/alice", True, True, "nfs", "server:/home", 1000, 500)


@pytest.mark.parametrize(
    ("facts", "root"),
    [
        (Facts(folders={"home": HOME}), "$HOME/hpcrun"),
        (
            Facts(folders={"home": HOME, "scratch": LUSTRE}, variables={"SCRATCH": LUSTRE.path}),
            "$SCRATCH/hpcrun",
        ),
        # A variable that only the profile sets is not there when hpcrun asks.
        (
            Facts(user="alice", folders={"home": HOME, "scratch": LUSTRE}, profile={"SCRATCH": LUSTRE.path}),
            "/scratch/$USER/hpcrun",
        ),
        (
            Facts(
                folders={"home": HOME, "scratch": replace(LUSTRE, writable=False), "work": LUSTRE},
                variables={"SCRATCH": "/x", "WORK": LUSTRE.path},
            ),
            "$WORK/hpcrun",
        ),
        (Facts(user="alice", folders={"home": HOME, "other:/s/alice": LUSTRE}), "/scratch/$USER/hpcrun"),
        # Every node has a /scratch of its own there.
        (Facts(folders={"home": HOME, "other:/s": OWN}), "$HOME/hpcrun"),
    ],
)  # fmt: skip
def test_the_folder_for_runs(facts: Facts, root: str) -> None:
    assert choose_root(facts)[0] == root
    assert read_text("virtual", described(facts)).root == root


@pytest.mark.parametrize(
    ("seconds", "text"), [(86400, "1d"), (129600, "36h"), (600, "10m"), (90, "00:01:30"), (5400, "90m")]
)
def test_times_as_people_write_them(seconds: int, text: str) -> None:
    assert short_time(seconds) == text
    facts = Facts(partitions={"a": Offered(Limits("a", time=seconds))})
    found = read_text("virtual", described(facts)).partitions["a"].max_time
    assert found is not None and int(found) == seconds


def test_how_to_get_there_is_kept() -> None:
    connection = Connection(
        type="openssh", host="c", user="me", port=2222, jump="gate", ssh_config="/etc/x y", two_factor=True,
        connect_timeout=30, login_nodes=["c*"],
    )  # fmt: skip
    for text in (described(Facts(), connection), unfinished("virtual", connection, date="2026-11-23")):
        assert read_text("virtual", text).connection == connection
    assert read_text("virtual", described(Facts(by_login=True))).connection.login_shell


def test_a_partition_that_is_not_for_us_is_not_listed() -> None:
    text = said("trixie").replace(
        "short AllowGroups=ALL AllowAccounts=ALL", "short AllowGroups=ALL AllowAccounts=boss"
    )
    written = described(facts_of(text))
    assert list(read_text("virtual", written).partitions) == ["main", "preempt"]
    assert "# not listed: short (only for account boss)" in written


# -- the script itself --------------------------------------------------------


def test_shellcheck_has_nothing_to_say() -> None:
    for path in (DATA.parent.parent.parent / "hpcrun" / "probe").glob("*.sh"):
        source = script(path.stem, alone=path.stem in ("expand", "job_rank", "job_batch"))
        # The variables stand before the source of a job.
        argv = [str(Path(sys.executable).parent / "shellcheck"), "--shell=sh", "--severity=info", "-"]
        done = subprocess.run(argv, input=source, capture_output=True, text=True, timeout=60)
        assert done.stdout == "", path.name


def shells() -> list[list[str]]:
    found = [["/bin/sh"], ["bash", "--posix"]]
    return found + [each for each in (["dash"], ["busybox", "sh"]) if shutil.which(each[0])]


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("~", "$H"),
        ("~/a b", "$H/a b"),
        ("$HOME/x", "$H/x"),
        ("${HOME}x/$HOME", "$Hx/$H"),
        ("/a/$NOPE/${NOPE}/b", "/a/$NOPE/$NOPE/b"),
        ("/a/$(touch canary)/`touch canary`/b", "/a/$(touch canary)/`touch canary`/b"),
        ("/a'b\"c;d&e", "/a'b\"c;d&e"),
    ],
)
def test_a_path_is_expanded_and_nothing_is_carried_out(
    shell: list[str], path: str, there: str, tmp_path: Path
) -> None:
    source = script("expand", alone=True) + 'expand "$1"\n'
    done = subprocess.run([*shell, "-c", source, "x", path], capture_output=True, text=True, timeout=20)
    assert done.stdout.rstrip("\n").replace("/a/$/", "/a/$(touch canary)/") == there.replace(
        "$H", str(Path.home())
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
def test_the_questions_are_put_by_any_posix_shell(shell: list[str], tmp_path: Path) -> None:
    """On this machine, without Slurm's; a root that is there is written to, and nothing is left in it."""
    words = ["local", str(tmp_path), "", "no-such-program"]
    done = subprocess.run(
        [*shell, "-c", script("probe"), "x", *words], capture_output=True, text=True, timeout=60
    )
    facts = facts_of(done.stdout)
    assert done.stderr == "" and facts.whole and facts.time and not facts.slurm
    assert facts.folders["root"].path == str(tmp_path)
    assert facts.folders["root"].there and facts.folders["root"].writable and facts.folders["root"].free
    assert facts.programs["git"].startswith("git version") and "container" not in facts.programs
    assert not list(tmp_path.iterdir())


def test_a_program_cannot_speak_for_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "git"
    git.write_text(
        "#!/bin/sh\nprintf '. 0\\n\\n= rsync\\n rsync version 99\\n. 0\\n= by_login\\n yes\\n. 0\\n'\n"
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    facts = facts_of(LocalShell().script(script("probe"), ["local", "", "", ""], timeout=60).stdout)
    assert facts.programs["git"] == ". 0" and not facts.by_login
    assert "99" not in facts.programs.get("rsync", "")


def test_what_a_program_says_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and in time, and what it starts does not keep the answer waiting."""
    for name, source in (("git", "yes flood"), ("rsync", "sleep 600"), ("python3", "echo no >&2; exit 3")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{source}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    short = script("probe").replace("ask rsync 10", "ask rsync 1").replace("ask git 10", "ask git 2")
    result = LocalShell().script(short, ["local", "", "", ""], timeout=30)
    answers = read_answers(result.stdout)
    assert result.ok and result.seconds < 20 and "end" in answers
    assert MOST // 2 < len(answers["git"][0].text) <= MOST
    assert answers["rsync"][0].why == "it did not answer in time"
    assert answers["python"][0] == Answer(("no", ""), 3) or answers["python"][0].why == "no"


def test_a_machine_that_says_too_much_or_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Says(LocalShell):
        def __init__(self, text: str) -> None:
            self.text = text

        def script(self, source, words=(), **how):  # type: ignore[no-untyped-def]
            how["sink"](self.text.encode())
            return Result(("sh",), 0, "", "sh: what?", 0.1)

    with pytest.raises(CommandError, match="more than 8000000 bytes"):
        ask(Says("x" * 8_100_000))
    with pytest.raises(CommandError, match="has no end") as caught:
        ask(Says("= date\n 1\n. 0\n"))
    assert caught.value.hint == "sh: what?"


@pytest.mark.parametrize(
    ("time", "before", "after", "skew"),
    [
        (100, 99.5, 101.0, 0.0),
        (100, 100.9, 101.5, 0.0),
        (200, 99.0, 101.0, 99.0),
        (10, 99.0, 101.0, -88.0),
        (None, 1.0, 2.0, 0.0),
    ],
)  # fmt: skip
def test_by_how_much_a_clock_is_wrong(time: int | None, before: float, after: float, skew: float) -> None:
    """The time between question and answer is nobody's fault."""
    assert Facts(time=time).skew(before, after) == skew
