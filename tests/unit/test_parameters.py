"""What a script's arguments say by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.metrics.parameters import (
    MAX_NAME,
    MAX_NAMES,
    MAX_TEXT,
    Value,
    from_arguments,
    of_command,
    typed,
)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--lr", "0.1"], {"lr": 0.1}),
        (["--lr=0.1"], {"lr": 0.1}),
        (["-b", "64"], {"b": 64}),
        (["--lr", 1e-4, "--n", 3, "--amp", True], {"lr": 1e-4, "n": 3, "amp": True}),
        (["--amp", "--no-shuffle", "--lr", "1e-4"], {"amp": True, "no-shuffle": True, "lr": 1e-4}),
        (["--shift", "-5", "--scale", "-.5", "--low", "-1e3"], {"shift": -5, "scale": -0.5, "low": -1000.0}),
        (["--layers", "64", "64", "32"], {"layers": "64 64 32"}),
        (["data/train", "--lr", "0.1"], {"lr": 0.1}),
        (["--lr", "1", "--lr", "2"], {"lr": 2}),
        (["lr=0.1", "+model.depth=18", "data=imagenet"], {"lr": 0.1, "model.depth": 18, "data": "imagenet"}),
        (["--define", "a=b"], {"define": "a=b"}),
        (["--config-name", "x", "lr=0.5"], {"config-name": "x", "lr": 0.5}),
        (["--text=", "--eq=a=b"], {"text": "", "eq": "a=b"}),
        (["--lr", "1", "--", "--other", "2"], {"lr": 1}),
        (["-", "--=3", "-1", "---x"], {}),
        ([], {}),
    ],
)
def test_arguments(words: list[Value], found: dict[str, Value]) -> None:
    assert from_arguments(words) == found
    assert [type(v) for v in from_arguments(words).values()] == [type(v) for v in found.values()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["python", "-c", "print('a=1')", "--lr", "0.1"], {"lr": 0.1}),
        (["/usr/bin/python3.11", "-u", "train.py", "--lr", "0.1"], {"lr": 0.1}),
        (["python", "-W", "error", "-X", "dev", "train.py", "-b", "64"], {"b": 64}),
        (["python", "-m", "train", "--lr", "0.1"], {"lr": 0.1}),
        (["bash", "-c", "echo --a 1"], {}),
        (["python"], {}),
        (["python", "-c"], {}),
        (["./train", "-c", "deep", "--lr", "0.1"], {"c": "deep", "lr": 0.1}),
        ([], {}),
    ],
)
def test_what_an_interpreter_is_told_is_none(words: list[Value], found: dict[str, Value]) -> None:
    assert from_arguments(of_command(words)) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-3", -3), ("007", "007"), ("1_000", "1_000"), ("1.", 1.0), (".5", 0.5), ("1e-4", 1e-4),
        ("1E3", 1000.0), ("1e999", "1e999"), ("nan", "nan"), ("inf", "inf"), ("true", True), ("False", False),
        ("v1", "v1"), ("1.2.3", "1.2.3"), ("", ""), ("e5", "e5"), ("9" * 30, "9" * 30), ("0x10", "0x10"),
    ],
)  # fmt: skip
def test_typed(text: str, value: Value) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_limits() -> None:
    many = from_arguments([f"--name{i}={i}" for i in range(MAX_NAMES + 10)])
    assert len(many) == MAX_NAMES
    assert from_arguments(["--" + "x" * MAX_NAME, "1"]) == {"x" * MAX_NAME: 1}
    assert from_arguments(["--" + "x" * (MAX_NAME + 1), "1", "--y", "2"]) == {"y": 2}
    assert from_arguments(["--text", "x" * 5000]) == {"text": "x" * MAX_TEXT}


@given(st.lists(st.text() | st.integers() | st.floats() | st.booleans()))
def test_any_words(words: list[Value]) -> None:
    found = from_arguments(words)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
