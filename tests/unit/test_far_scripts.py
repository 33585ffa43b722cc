"""The scripts that run on other machines, under each make of POSIX shell there is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hpcrun.shells.base import Result
from hpcrun.shells.scripts import source
from tests.far_help import SHELLS, FarHere, present

SCRIPTS = Path(__file__).resolve().parents[2] / "hpcrun/shells/scripts"
ODD = 'it\'s "odd" $HOME `id` % \\ päth — 雪'
FAKE = """\
#!/bin/sh
echo call >>"$HOME/calls"
env | grep -c '^SLURM_\\|^SBATCH_' >"$HOME/leaks"
for word; do printf '%s|' "$word"; done >>"$HOME/words"
[ ! -e "$HOME/wait" ] || read -r line <"$HOME/wait"
printf '%s' "$ANSWER"
echo "said aside" >&2
exit "$CODE"
"""


@pytest.fixture(params=present())
def there(request: pytest.FixtureRequest, tmp_path: Path) -> FarHere:
    shell = FarHere(tmp_path, request.param)
    (shell.tools / "sbatch").unlink(missing_ok=True)
    (shell.tools / "sbatch").write_text(FAKE)
    (shell.tools / "sbatch").chmod(0o755)
    shell.env |= {"ANSWER": "42\n", "CODE": "0", "SBATCH_JOB_NAME": "x", "SLURM_CPU_BIND": "y"}
    return shell


def folder_of(there: FarHere) -> Path:
    folder = there.home / ODD
    folder.mkdir(exist_ok=True)
    return folder


def submit(there: FarHere, token: str = "0") -> Result:
    words = ["20", str(folder_of(there)), token, "sbatch", "--parsable", ODD, ""]
    return there.script(source("clean", "submit"), words, timeout=20)


def recover(there: FarHere, token: str = "0") -> str:
    result = there.script(source("recover"), ["20", str(folder_of(there)), token], timeout=20)
    return result.check().stdout


def calls(there: FarHere) -> int:
    path = there.home / "calls"
    return len(path.read_text().split()) if path.exists() else 0


def test_most_shells_are_here() -> None:
    assert "dash" in present() or "busybox" in present(), f"none of {list(SHELLS)}"


def test_shellcheck_is_content() -> None:
    program = Path(sys.executable).with_name("shellcheck")
    files = sorted(SCRIPTS.glob("*.sh"))
    # Some variables come from another file, or go to one; the names that ls gives are those of trees.
    argv = [str(program), "--shell=sh", "--exclude=SC2034,SC2154,SC2012", *map(str, files)]
    done = subprocess.run(argv, text=True, capture_output=True, timeout=120)
    assert len(files) > 8 and done.returncode == 0, done.stdout + done.stderr


def test_no_shell_ends_by_a_redirection() -> None:
    """Where that of a special built-in fails, a POSIX shell ends then and there; a subshell ends alone."""
    special = re.compile(r"(^|[;&|{!]|then|else|do)\s*(:|eval|export)\s[^;&|]*[<>](?!&)")
    for path in sorted(SCRIPTS.glob("*.sh")):
        lines = (re.sub(r"\([^()]*\)| # .*", "", line) for line in path.read_text().splitlines())
        assert [line for line in lines if special.search(line)] == [], path.name


def test_a_submission_is_made_once_for_a_token(there: FarHere) -> None:
    first = submit(there)
    assert (first.rc, first.stdout, first.stderr.strip()) == (0, "42\n", "said aside")
    assert (there.home / "words").read_text() == f"--parsable|{ODD}||"
    assert (there.home / "leaks").read_text() == "0\n"
    second = submit(there)
    assert (second.rc, second.stdout) == (91, "")
    assert calls(there) == 1
    assert submit(there, "1").rc == 0


def test_an_answer_is_found_again(there: FarHere) -> None:
    there.env["CODE"] = "3"
    assert submit(there).rc == 3
    assert recover(there) == "code 3\n42\n"
    assert recover(there) == "code 3\n42\n"
    assert calls(there) == 1


def test_whoever_looks_first_takes_the_token(there: FarHere) -> None:
    """What is still on its way finds the token taken; without that there would be two jobs."""
    assert recover(there) == "never\n"
    assert recover(there) == "never\n"
    late = submit(there)
    assert (late.rc, late.stdout, calls(there)) == (91, "", 0)


def test_a_submission_that_goes_on_is_left_alone(there: FarHere) -> None:
    subprocess.run(["mkfifo", str(there.home / "wait")], check=True, timeout=10)
    done: list[Result] = []
    going = threading.Thread(target=lambda: done.append(submit(there)))
    going.start()
    with (there.home / "wait").open("w"):  # it is there, and waits
        assert recover(there) == "under way\n"
    going.join(20)
    assert done[0].ok
    assert recover(there) == "code 0\n42\n"


@pytest.mark.parametrize(
    ("began", "age", "word"), [("", 0, "under way"), ("", 70, "dead"), ("1000000000\n", 0, "dead")]
)
def test_a_submission_that_died(there: FarHere, began: str, age: int, word: str) -> None:
    """By the time it began by the login node's clock; or by the file system's, if that was not written."""
    token = folder_of(there) / "sbatch.0"
    token.mkdir()
    (token / "began").write_text(began)
    subprocess.run(["touch", "-d", f"{age} minutes ago", str(token)], check=True, timeout=10)
    assert recover(there) == f"{word}\n"


def test_clocks_may_differ_by_some_minutes(there: FarHere) -> None:
    token = folder_of(there) / "sbatch.0"
    token.mkdir()
    now = int(subprocess.run(["date", "+%s"], check=True, capture_output=True, timeout=10).stdout)
    for skew in (-240, 240):
        (token / "began").write_text(f"{now + skew}\n")
        assert recover(there) == "under way\n"


def test_a_folder_that_is_gone(there: FarHere) -> None:
    folder_of(there).rmdir()
    result = there.script(source("recover"), ["20", str(there.home / ODD), "0"], timeout=20)
    assert result.stdout == "gone\n"
    words = ["20", str(there.home / ODD), "0", "sbatch"]
    assert there.script(source("clean", "submit"), words, timeout=20).rc == 92


def test_what_the_jobs_say(there: FarHere) -> None:
    runs = {name: there.home / ODD / name for name in ("ended", "waits", "hostile", "gone")}
    for name, run in runs.items():
        if name != "gone":
            (run / "system_logs").mkdir(parents=True)
    ended = runs["ended"]
    (ended / "claim").symlink_to("17")
    (ended / "status.json").write_text('{"ended":"2026"}\nmore\n')
    (ended / "system_logs/attempts.jsonl").write_text("one\ntwo\n")
    (ended / "system_logs/job.txt").write_text("R forged\nlast words")
    hostile = runs["hostile"]
    (hostile / "claim").symlink_to("17\nS forged")
    (hostile / "status.json").symlink_to("/etc/passwd")
    result = there.script(source("words"), timeout=20, stdin="".join(f"{run}\n" for run in runs.values()))
    assert [line for line in result.check().stdout.splitlines() if line] == [
        *("R ended", "C 17", 'S {"ended":"2026"}', "A one", "A two", "J R forged", "J last words"),
        *("R waits", "R hostile", "C 17", "R gone", "G"),
    ]


def test_a_question_to_slurm(there: FarHere) -> None:
    (there.tools / "squeue").unlink(missing_ok=True)
    (there.tools / "squeue").write_text('#!/bin/sh\nprintf "%s|" "$@" "$TZ"\nexit "$CODE"\n')
    (there.tools / "squeue").chmod(0o755)
    there.env["CODE"] = "7"
    words = ["20", "squeue", "--user=", "user=", f"--name={ODD}", ""]
    result = there.script(source("clean", "ask"), words, timeout=20)
    me = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    assert (result.rc, result.stdout) == (7, f"--user={me}|user={me}|--name={ODD}||UTC|")


def test_secrets_are_forgotten(there: FarHere) -> None:
    folder = folder_of(there)
    for name in ("secrets.sh", "secrets.sh.0123456789ab", "job.sh"):
        (folder / name).write_text("x")
    there.script(source("forget"), [str(folder / "secrets.sh")], timeout=20).check()
    assert [path.name for path in folder.iterdir()] == ["job.sh"]


NAME = "venv-0123456789abcdef"
ENDS = """\
readlink() {
    case $*,$WHEN in *.lock,before) sh "$HOME/ends" ;; esac
    command readlink "$@"
    case $*,$WHEN in *.lock,after) sh "$HOME/ends" ;; esac
}
"""


def making(there: FarHere) -> Path:
    """The folder of an environment that is being made; the site's tools are enough to look at it."""
    for program in ("stat", "tr", "uname", "wc"):
        if not (there.tools / program).exists():
            (there.tools / program).symlink_to(shutil.which(program) or "missing")
    folder = there.home / f"{NAME}-{os.uname().machine}.1"
    folder.mkdir()
    for name in ("beat", "log.txt"):
        (folder / name).touch()
    folder.with_suffix(".lock").symlink_to(folder.name)
    return folder


def looked(there: FarHere, folder: str, before: str = "") -> list[str]:
    words = [str(there.home), NAME, folder, "0", "0"]
    return there.script(before + source("env_stand", "env_look"), words, timeout=20).check().stdout.split()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["ready", "failed"])
def test_a_build_that_ends_while_it_is_looked_at(there: FarHere, when: str, how: str) -> None:
    """A builder lets its lock go at the very moment that somebody reads it: how it ended is told."""
    folder = making(there)
    assert looked(there, folder.name)[:2] == ["building", folder.name]
    wanted = folder.with_suffix("")
    ended = f"echo '{{}}' >{folder}/environment.json; ln -s {folder.name} {wanted}"
    ended = ended if how == "ready" else f"echo 7 >{folder}/failed"
    (there.home / "ends").write_text(f"{ended}; rm -f {wanted}.lock\n")
    there.env["WHEN"] = when
    assert looked(there, folder.name, ENDS) == [how, folder.name, *(["7"] if how == "failed" else [])]


def test_a_builder_that_left_nothing_but_its_lock(there: FarHere) -> None:
    folder = making(there)
    shutil.rmtree(folder)
    assert looked(there, folder.name) == ["building", folder.name, "-"]
