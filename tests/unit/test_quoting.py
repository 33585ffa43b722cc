"""Text comes out of bash and of sbatch as it went in, whatever is in it."""

from __future__ import annotations

import copy
import pickle
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcrun.quoting import (
    Comment,
    Directive,
    Secret,
    ShellText,
    ShellWord,
    argv_text,
    export,
    is_variable_name,
)

NASTY = [
    *(
        "",
        " ",
        "'",
        '"',
        "\\",
        "\\\\'",
        "$HOME",
        "`id`",
        "$(id)",
        "!!",
        "~",
        "~root",
        "*",
        "?",
        "[a]",
        "{a,b}",
    ),
    *(
        "-n",
        "--",
        "a=b",
        "a+=b",
        "A=$(id)",
        "if",
        "done",
        "time",
        "in",
        "!",
        "[[",
        "{",
        "&",
        ";",
        "|",
        "#",
        "# x",
    ),
    *(
        "\n",
        "a\nb",
        "\r\n",
        "\t",
        "\x1b[0m",
        "\x7f",
        "é",
        "雪",
        "\u2028",
        "\N{BYTE ORDER MARK}",
        "%s",
        "\\n",
        "EOF",
    ),
]
words = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)
one_line = st.one_of(
    st.sampled_from([w for w in NASTY if not {"\n", "\r"} & set(w)]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n")),
)


def bash(script: str) -> bytes:
    done = subprocess.run(
        ["bash", "--norc", "-eu"],
        input=script.encode("utf-8", "surrogateescape"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


# Many words to one bash, so that a thousand words cost a few dozen processes.
@settings(max_examples=30)
@given(st.lists(words, min_size=1, max_size=60))
@example(NASTY)
def test_words_come_out_of_bash_as_they_went_in(raw: list[str]) -> None:
    said = bash(f"printf '%s\\0' {argv_text(raw)}")
    assert said.decode().split("\0")[:-1] == raw


@settings(max_examples=30)
@given(st.lists(words, min_size=1, max_size=60))
@example(NASTY)
def test_exported_values_reach_a_program_as_they_went_in(raw: list[str]) -> None:
    exports = "\n".join(str(export(f"V{i}", value)) for i, value in enumerate(raw))
    said = bash(f"unset BASH_ENV\n{exports}\nexec env -0").split(b"\0")
    found = dict(line.decode().split("=", 1) for line in said if line)
    assert [found[f"V{i}"] for i in range(len(raw))] == raw


@settings(max_examples=20)
@given(st.lists(words, min_size=1, max_size=40))
@example(NASTY)
def test_words_survive_a_second_round_of_quoting(raw: list[str]) -> None:
    inner = ShellText("printf '%s\\0' {}", argv_text(raw))
    said = bash(str(ShellText("bash --norc -c {}", ShellWord(inner))))
    assert said.decode().split("\0")[:-1] == raw


def test_bytes_that_are_no_utf8_come_through() -> None:
    raw = b"caf\xe9 'x'".decode("utf-8", "surrogateescape")
    assert bash(f"printf %s {ShellWord(raw)}") == b"caf\xe9 'x'"


@pytest.mark.parametrize("name", ["a=b", "a+=b", "if", "time", "done", "function", "coproc", "{", "!", "a b"])
def test_the_first_word_of_a_command_is_a_program(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_text('#!/bin/sh\necho "ran with $*"\n')
    program.chmod(0o755)
    said = bash(f"PATH={ShellWord(tmp_path)}:$PATH\n{argv_text([name, 'x y'])}")
    assert said == b"ran with x y\n"


def test_no_canary_is_touched(tmp_path: Path, weird_tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    attacks = [
        text.format(f"touch {ShellWord(canary)}")
        for text in (
            "$({})",
            "`{}`",
            "'; {}; '",
            '"; {}; "',
            "\n{}\n",
            "\\'; {} #",
            "&& {}",
            "> /dev/null; {}",
        )
    ]
    bash(f"cd -- {ShellWord(weird_tmp_path)}\n: {argv_text(attacks)}\n# {Comment(attacks[4])}\n")
    assert not canary.exists()


def test_plain_words_stay_readable() -> None:
    plain = ["python3", "train.py", "--lr=0.1", "/a/b.c", "x:y,z", "@1", "50%"]
    assert str(argv_text(plain)) == " ".join(plain)


@pytest.mark.parametrize("make", [ShellWord, ShellText.trusted, lambda t: Directive("comment", t)])
def test_nul_is_refused(make: type[ShellWord]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        make("a\0b")


def slurm_reads(line: str) -> str | None:
    """What sbatch makes of the text after ``#SBATCH``: its parser, written down anew.

    One argument of a line; None where some part of Slurm would see a further component of a heterogeneous
    job.
    """
    if "hetjob" in line.lower() or "packjob" in line.lower():
        return None
    out, quote, rest = [], "", iter(line.removeprefix("#SBATCH").lstrip())
    for char in rest:
        if char == "\\":
            out.append(next(rest))
        elif quote:
            if char == quote:
                quote = ""
            else:
                out.append(char)
        elif char in "\"'":
            quote = char
        elif char == "#" or char in " \t\v\f":
            assert not "".join(rest).strip(), f"more than one argument: {line}"
        else:
            out.append(char)
    assert not quote, f"unbalanced quotes: {line}"
    return "".join(out)


@given(one_line)
@example("hetjob")
@example("a PackJob b")
@example('back\\slash "and" quote\\')
@example("it's # no comment")
@example("")
def test_sbatch_reads_the_value_that_was_meant(value: str) -> None:
    line = str(Directive("comment", value))
    assert "\n" not in line and "\r" not in line
    assert slurm_reads(line) == f"--comment={value}"


@given(words, st.sampled_from(["\n", "\r", "\r\n", "\n#SBATCH --uid=0\n"]), words)
def test_a_line_break_in_a_directive_is_refused(before: str, line_break: str, after: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        Directive("comment", before + line_break + after)


@pytest.mark.parametrize("name", ["", "Comment", "a b", "a=b", "-a", "--a", "a\n", "é", "1"])
def test_names_of_options_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        Directive(name, "x")


def test_directives_look_like_those_in_the_manual() -> None:
    assert str(Directive("exclusive")) == "#SBATCH --exclusive"
    assert str(Directive("time", "1-12:00:00")) == "#SBATCH --time=1-12:00:00"
    assert str(Directive("nodes", 2)) == "#SBATCH --nodes=2"
    assert str(Directive("comment", "two words")) == '#SBATCH --comment="two words"'


@given(words)
def test_a_comment_stays_on_its_line(text: str) -> None:
    # Only what ends a line for bash and for sbatch counts; both know no other line ends than these.
    assert not {"\n", "\r", "\0", "\v", "\f"} & set(str(Comment(text)))


def test_shell_text_takes_only_what_is_safe() -> None:
    with pytest.raises(TypeError, match="not safe"):
        ShellText("echo {}", "$(id)")  # type: ignore[arg-type]
    assert str(ShellText("f() {{ echo {} {}; }}", ShellWord("a b"), 3)) == "f() { echo 'a b' 3; }"
    assert str(ShellText("f() {{ :; }}")) == "f() { :; }"
    assert str(ShellText.trusted("echo ${X}")) == "echo ${X}"
    assert str(ShellText("{}", ShellText.trusted("echo ${X}"))) == "echo ${X}"
    assert not ShellText.join(" ", []) and ShellText("x")


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "A\n", "é", "A[0]", "a.b"])
def test_what_no_shell_exports_is_refused(name: str) -> None:
    assert not is_variable_name(name)
    with pytest.raises(ValueError, match="export"):
        export(name, "x")


def test_a_secret_does_not_show() -> None:
    secret = Secret("hunter2")
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret:>20}", f"{secret!r}", f"{[secret]}"):
        assert "hunter2" not in shown
    assert secret.reveal() == "hunter2"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert copy.deepcopy([secret])[0] is secret
