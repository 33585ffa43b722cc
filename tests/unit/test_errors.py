"""Errors: every one has an exit code of its own, says what to do, and stands in the documents."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun import errors
from hpcrun.errors import ConfigError, HpcrunError, Problem, RunError

ROOT = Path(__file__).resolve().parents[2]


def tree(base: type[HpcrunError] = HpcrunError) -> Iterator[type[HpcrunError]]:
    yield base
    for child in base.__subclasses__():
        if child.__module__ == "hpcrun.errors":
            yield from tree(child)


ALL = list(tree())


def test_exit_codes_are_distinct() -> None:
    codes = [error.exit_code for error in ALL if error is not RunError]
    assert len(codes) == len(set(codes))
    # 0 is success; 126 and above are the shell's.
    assert all(1 <= code < 126 for code in codes) and errors.INTERRUPTED == 130


def test_every_class_of_the_module_is_in_the_tree() -> None:
    classes = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert classes == set(ALL)


@pytest.mark.parametrize("error", ALL)
def test_the_tree_is_drawn_as_it_is(error: type[HpcrunError]) -> None:
    drawn = dict(re.findall(r"(\w+(?:Error|Rejected|Ambiguous|Required))\b +(\d+)?", errors.__doc__ or ""))
    assert error.__name__ in drawn
    assert drawn[error.__name__] in ("", str(error.exit_code))


def test_exit_codes_are_documented() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text()
    rows = {int(code): name for code, name in re.findall(r"^\| (\d+) \| `?(\w*)", page, re.MULTILINE)}
    expected = {error.exit_code: error.__name__ for error in ALL if error is not RunError}
    assert {
        code: name for code, name in rows.items() if code not in (0, errors.INTERRUPTED, errors.PIPE_CLOSED)
    } == expected
    assert {0, errors.INTERRUPTED} <= set(rows)


@pytest.mark.parametrize("error", [e for e in ALL if e is not ConfigError])
def test_a_hint_is_shown_and_survives_another_process(error: type[HpcrunError]) -> None:
    plain, hinted = error("it broke"), error("it broke", hint="mend it")
    assert str(plain) == "it broke" and plain.hint is None
    assert str(hinted) == "it broke\n  mend it"
    again = pickle.loads(pickle.dumps(hinted))  # noqa: S301
    assert (type(again), str(again), again.hint) == (error, str(hinted), "mend it")


def test_a_config_error_holds_every_problem() -> None:
    problems = [
        Problem("is not a number", "run.yaml:3:7", "resources.nodes", "did you mean 2?"),
        Problem("nothing to run"),
    ]
    error = ConfigError(problems, hint="see the manual")
    assert error.problems == problems
    assert str(error).splitlines() == [
        "run.yaml:3:7: resources.nodes: is not a number",
        "    did you mean 2?",
        "nothing to run",
        "  see the manual",
    ]
    assert ConfigError("one").problems == [Problem("one")]
    assert pickle.loads(pickle.dumps(error)).problems == problems  # noqa: S301


def test_everything_is_caught_as_one() -> None:
    for error in ALL:
        with pytest.raises(HpcrunError):
            raise error("x")
