"""Scripts on their way to a shell, and answers on their way back: whole, or as if they had never been."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.errors import CommandError
from hpcrun.shells import framing
from hpcrun.shells.framing import Frame

MARK = "hpcrun-0123456789abcdef01234567"
SHELLS = [
    argv
    for argv in (["/bin/sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"], ["ksh"], ["mksh"], ["zsh"])
    if shutil.which(argv[0])
]
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)

# A file name, a variable, an argument: anything but NUL, broken UTF-8 too.
words = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=12).map(
        lambda text: text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    ),
    max_size=4,
)
nasty = st.lists(
    st.sampled_from(
        ["'", '"', "\\", "\r", "\n", "$HOME", "`id`", "$(id)", "!!", "*", "~", "", " ", "-n", "é", "="]
    ),
    max_size=6,
).map("".join)


def said_by(shell: list[str], sent: bytes, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """What a shell says that is sent to read a script, as a login shell would be."""
    argv = [*shell, "-c", framing.READ]
    return subprocess.run(argv, input=sent, capture_output=True, cwd=cwd, timeout=60, check=False)


def answer(stdout: bytes, mark: str = MARK) -> tuple[bytes, int | None]:
    frame = Frame(mark)
    return frame.feed(stdout) + frame.finish(), frame.rc


@each_shell
@settings(max_examples=25)
@given(words=words, more=st.lists(nasty, max_size=4))
def test_any_words_arrive_as_they_were(shell: list[str], words: list[str], more: list[str]) -> None:
    sent = [*words, *more]
    source = "for word; do printf '%s\\0' \"$word\"; done"
    done = said_by(shell, framing.request(source, sent, MARK))
    got, rc = answer(done.stdout)
    assert rc == 0
    assert got == b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in sent)
    assert framing.strip_noise(done.stderr, MARK) == b""


@each_shell
@settings(max_examples=15)
@given(argv=st.lists(nasty, max_size=3), value=nasty)
def test_a_program_gets_its_arguments_and_variables(shell: list[str], argv: list[str], value: str) -> None:
    source = framing.command(["env", "-", "sh", "-c", 'printf "%s\\0" "$@"', "sh", *argv], "/", {}, 9)
    assert answer(said_by(shell, framing.request(source, (), MARK)).stdout) == (
        "".join(f"{word}\0" for word in argv).encode() or b"\0",
        0,
    )
    source = framing.command(["sh", "-c", 'printf "%s." "$ODD"'], None, {"ODD": value}, 9)
    assert answer(said_by(shell, framing.request(source, (), MARK)).stdout) == (f"{value}.".encode(), 0)


@each_shell
def test_what_is_cut_off_on_its_way_is_not_carried_out_at_all(shell: list[str], tmp_path: Path) -> None:
    source = ": > first\ncat > \"$1\" <<'END'\n$(touch third)\nEND\n(touch fourth)\nexit 7"
    whole = framing.request(source, ["second $(touch fifth)"], MARK)
    # A last line break is lost without harm: the script is complete by then.
    for length in range(len(whole) - 1):
        done = said_by(shell, whole[:length], tmp_path)
        assert not list(tmp_path.iterdir()), f"{length} of {len(whole)} bytes did something"
        assert MARK.encode() not in done.stdout
    assert answer(said_by(shell, whole, tmp_path).stdout) == (b"", 7)
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second $(touch fifth)", "fourth"}


@each_shell
def test_the_rest_of_standard_input_is_the_scripts(shell: list[str]) -> None:
    data = bytes(range(256)) * 700
    done = said_by(shell, framing.request("cat; exit 3", (), MARK) + data)
    assert answer(done.stdout) == (data, 3)


@settings(max_examples=200)
@given(
    noise=st.binary(max_size=60),
    body=st.lists(st.one_of(st.binary(max_size=12), st.just(b"\n"), st.just(f"\n{MARK}-end ".encode()))),
    rc=st.integers(0, 255),
    cuts=st.lists(st.integers(0, 300), max_size=12),
    after=st.binary(max_size=20),
)
def test_an_answer_is_found_however_it_is_cut(
    noise: bytes, body: list[bytes], rc: int, cuts: list[int], after: bytes
) -> None:
    said = b"".join(body)
    if f"\n{MARK}-end ".encode() in said and re.search(rb"-end \d+\n", said):
        return  # nobody can guess the mark
    stream = noise + f"\n{MARK}\n".encode() + said + f"\n{MARK}-end {rc}\n".encode() + after
    frame, got, at = Frame(MARK), b"", 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        got += frame.feed(stream[at:cut])
        assert said.startswith(got)  # nothing is told that has to be taken back
        at = cut
    got += frame.finish()
    assert (got, frame.rc, frame.noise) == (said, rc, noise)


@given(st.integers(0, 200))
def test_an_answer_without_its_end_has_no_exit_code(length: int) -> None:
    stream = f"hello\n{MARK}\nsome\nlines\n{MARK}-end 12\n".encode()
    cut = stream[: min(length, len(stream) - 1)]
    got, rc = answer(cut)
    assert rc is None
    if f"\n{MARK}\n".encode() in cut:
        assert cut.endswith(got)
    else:
        assert got == b""


def test_megabytes_of_noise_are_neither_kept_nor_looked_through_again() -> None:
    frame, piece = Frame(MARK), b"x" * (1 << 16)
    for _ in range(1600):  # a hundred megabytes: minutes, if each piece were added to those before
        assert frame.feed(piece) == b""
    assert frame.feed(f"last words\n{MARK}\nyes\n{MARK}-end 0\n".encode()) == b"yes"
    assert frame.noise.endswith(b"last words")
    assert len(frame.noise) <= 4096


@each_shell
def test_a_program_or_folder_that_is_not_there_is_told_from_one_that_fails(shell: list[str]) -> None:
    def check(argv: list[str], cwd: str | None) -> int | None:
        done = said_by(shell, framing.request(framing.command(argv, cwd, None, 9), (), MARK))
        _, rc = answer(done.stdout)
        framing.check_started(rc, framing.strip_noise(done.stderr, MARK).decode(), argv, cwd, "login")
        return rc

    with pytest.raises(CommandError, match="no folder /no/where on login"):
        check(["true"], "/no/where")
    with pytest.raises(CommandError, match="no program 'no-such-thing' on login"):
        check(["no-such-thing"], None)
    assert check(["sh", "-c", "no-such-thing"], None) == 127
    assert check(["sh", "-c", "exit 126"], None) == 126


@each_shell
def test_a_program_that_outlives_its_time_is_ended_there(shell: list[str], tmp_path: Path) -> None:
    source = framing.command(["sh", "-c", "echo $$ > pid; exec sleep 60"], str(tmp_path), None, 0.1)
    said_by(shell, framing.request(source, (), MARK))
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_no_mark_is_ever_used_twice() -> None:
    assert len({framing.new_mark() for _ in range(1000)}) == 1000
