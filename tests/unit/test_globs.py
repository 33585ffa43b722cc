"""Patterns for the files of a run, beside a slow matcher that follows the words of the manual."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpcrun.globs import escape, matches

NAMES = st.text("ab./*?[]!^-\\{\n", min_size=1, max_size=8).filter(lambda name: name.strip("/"))
PATTERNS = st.text("ab./*?[]!^-\\{\n", min_size=1, max_size=8)


def slowly(name: str, pattern: str) -> bool:
    """As matches() for one pattern, by trying everything."""
    body, below = pattern.strip("/"), pattern.endswith("/")
    heads = [name[:n] for n in range(len(name)) if name[n] == "/"] if below else [name]
    tails = [head[n:] for head in heads for n in range(len(head) + 1) if n == 0 or head[n - 1] == "/"]
    return any(_fits(text, body) for text in (heads if "/" in body else tails))


def _fits(text: str, body: str) -> bool:
    if not body:
        return not text
    if body.startswith("**/"):
        ends = [n for n in range(1, len(text) + 1) if text[n - 1] == "/"]
        return any(_fits(text[n:], body[3:]) for n in (0, *ends))
    if body.startswith("**"):
        return any(_fits(text[n:], body[2:]) for n in range(len(text) + 1))
    if body[0] == "*":
        return _fits(text, body[1:]) or (text[:1] not in ("", "/") and _fits(text[1:], body))
    if body[0] == "?":
        return text[:1] not in ("", "/") and _fits(text[1:], body[1:])
    end = body.find("]", 1)
    if body[0] == "[" and end > 1 and "/" not in body[:end]:
        inside, rest = body[1:end], body[end + 1 :]
        other = inside.startswith("!") and len(inside) > 1
        return (
            text[:1] not in ("", "/") and (_among(text[0], inside[other:]) != other) and _fits(text[1:], rest)
        )
    return text[:1] == body[0] and _fits(text[1:], body[1:])


def _among(character: str, inside: str) -> bool:
    while inside:
        if len(inside) > 2 and inside[1] == "-":
            if inside[0] <= character <= inside[2]:
                return True
            inside = inside[3:]
        else:
            if inside[0] == character:
                return True
            inside = inside[1:]
    return False


@given(NAMES, PATTERNS)
@example("a", "[b-a]")
@example("a]", "[]]")
@example("a/b", "[!a]b")
@example("^", "[^]")
@example("b", "[^a]")
@example("--", "[a--]")
@example("a", "[!]")
def test_as_the_manual_says(name: str, pattern: str) -> None:
    assert matches(name, [pattern]) == slowly(name, pattern)


@given(NAMES)
def test_an_escaped_name_fits_itself_alone(name: str) -> None:
    name = name.strip("/")
    whole = f"outputs/{name}"
    assert matches(whole, [escape(whole)])
    assert not matches(f"{whole}x", [escape(whole)])
    assert not matches(f"logs/{name}", [escape(whole)])


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        ("*.pt", ["outputs/a.pt", "outputs/deep/b.pt"], ["outputs/a.pth", "outputs/a.pt/x"]),
        ("outputs/*.pt", ["outputs/a.pt"], ["outputs/deep/b.pt", "logs/a.pt"]),
        ("outputs/**/*.pt", ["outputs/a.pt", "outputs/deep/er/b.pt"], ["logs/a.pt"]),
        ("outputs/images/", ["outputs/images/1.png", "outputs/images/deep/2.png"], ["outputs/images"]),
        ("images/", ["outputs/images/1.png"], ["outputs/image/1.png", "outputs/my-images/1"]),
        ("**", ["outputs/a", "logs/deep/b"], []),
        ("step-[0-4]?", ["outputs/step-31"], ["outputs/step-51", "outputs/step-3"]),
        ("[!a]b", ["outputs/xb"], ["outputs/ab", "x/b"]),
    ],
)
def test_examples(pattern: str, fits: list[str], not_: list[str]) -> None:
    assert [name for name in fits if not matches(name, [pattern])] == []
    assert [name for name in not_ if matches(name, [pattern])] == []


def test_no_pattern_fits_nothing_and_one_of_several_is_enough() -> None:
    assert not matches("outputs/a", [])
    assert matches("outputs/a", ["*.x", "a"])


def test_a_pattern_that_would_take_a_regular_expression_long_does_not() -> None:
    assert not matches("outputs/" + "a" * 60, ["*a*a*a*a*a*a*b"])
