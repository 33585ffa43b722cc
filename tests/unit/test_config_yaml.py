"""YAML text to a tree: what scalars are, what is refused, and where it says so."""

from __future__ import annotations

import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hpcrun.config.tree import ListNode, MapNode, Scalar
from hpcrun.config.yamltree import MAX_DEPTH, MAX_NODES, parse, read_file, resolve_plain
from hpcrun.errors import ConfigError, NotFoundError


def _value(text: str) -> object:
    node, problems = parse(text, "f")
    assert isinstance(node, Scalar) and not problems
    return node.value


def _refused(text: str) -> str:
    try:
        problems = parse(text, "f")[1]
    except ConfigError as error:
        problems = error.problems
    assert problems, "was accepted"
    return "\n".join(map(str, problems))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("null", "Null", "NULL", "~")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        ("0", 0), ("-0", 0), ("+12", 12), ("1234567890123456789012", 1234567890123456789012),
        ("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("-1e-4", -1e-4), ("1E5", 1e5), ("6.02e+23", 6.02e23),
    ],
)  # fmt: skip
def test_what_is_null_truth_or_number(text: str, value: object) -> None:
    got = _value(text)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "off", "y", "n", "tRue", "1:30:00", "1-12:00:00", "90:00", "2024-01-01", "0o17",
     "017", "007", "0x1F", "0b1", "1_000", "1,000", "1e999", "12e4567", "nan", "inf", "NaN",
     "e5", ".", "-", "+", "1.2.3", "--lr", "a100:2", "١٢", "1" * 4301, "=", "nullx", "http://x/y#z"],
)  # fmt: skip
def test_what_stays_text(text: str) -> None:
    assert resolve_plain(text) == text
    if text not in ("-", "="):
        assert _value(text) == text


@pytest.mark.parametrize("text", ['"5"', "'true'", '"null"', "'~'", '".nan"', "'1.5'", '""'])
def test_quotes_make_text(text: str) -> None:
    assert _value(text) == text[1:-1]


def test_scalars_keep_what_was_written() -> None:
    node, _ = parse("[1.10, 1e-4, '1.10']", "f")
    assert isinstance(node, ListNode)
    assert [item.text for item in node.items if isinstance(item, Scalar)] == ["1.10", "1e-4", None]


def test_every_value_and_every_key_has_its_place() -> None:
    node, _ = parse("a: 1\nb:\n  - x\n  - {c: d}\n", "run.yaml")
    assert isinstance(node, MapNode) and str(node.keys["b"]) == "run.yaml:2:1"
    items = node.entries["b"]
    assert isinstance(items, ListNode) and str(items.items[0].place) == "run.yaml:3:5"
    last = items.items[1]
    assert isinstance(last, MapNode) and str(last.entries["c"].place) == "run.yaml:4:9"


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN", ".inf", "-.Inf", "+.INF"])
def test_numbers_that_are_none(text: str) -> None:
    assert "f:1:4: " + text in _refused(f"a: {text}")


@pytest.mark.parametrize(
    "text", ["!!str x", "! x", "!x y", "!!python/object:os.system x", "!<tag:x,1> y", "!e!x y"]
)
def test_tags_are_refused(text: str) -> None:
    assert "f:1:4: tags" in _refused(f"a: {text}")


def test_a_bomb_is_refused_at_once() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 60))
    start = time.monotonic()
    assert "f:1:5: anchors (&l0) are not allowed" in _refused("l0: &l0 x\n" + levels)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_depth_has_a_limit(opening: str) -> None:
    assert f"nested more than {MAX_DEPTH} levels deep" in _refused(opening * 100_000)


def test_the_number_of_values_has_a_limit() -> None:
    assert f"more than {MAX_NODES:,} values" in _refused("[" + "x, " * (MAX_NODES + 10) + "]")
    assert len(parse("[" + "x, " * (MAX_NODES - 2) + "]", "f")[1]) == 0


def test_the_number_of_problems_has_a_limit() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("".join(f"a: {i}\n" for i in range(200)), "f")
    assert len(caught.value.problems) == 50


@pytest.mark.parametrize(
    ("character", "name"), [("\0", "0000"), ("\x07", "0007"), ("\x7f", "007F"), ("\x9b", "009B")]
)
def test_control_characters_are_refused(character: str, name: str) -> None:
    assert _refused(f"a: b\nc: d{character}").startswith(f"f:2:5: control character U+{name}")


@pytest.mark.parametrize(
    ("text", "where"),
    [(r'"a\0b"', "f:1:1"), (r'"\U00110000"', "f:1:1"), (r'"\UFFFFFFFF"', "f:1:1"), (r'"\q"', "f:1:3")],
)
def test_escapes_that_cannot_be(text: str, where: str) -> None:
    assert _refused(text).startswith(where)


def test_a_file_over_a_megabyte_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as stream:
        stream.write(b"a: b\n# ")
        stream.truncate(50_000_000_000)
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        read_file(path)


@pytest.mark.parametrize(
    ("data", "where"), [(b"a: b\nc: \xff\n", ":2:4: "), ("a: ü".encode("latin-1"), ":1:4: ")]
)
def test_text_that_is_no_utf8(tmp_path: Path, data: bytes, where: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        read_file(path)
    assert where in str(caught.value)


def test_utf16_is_refused_and_a_byte_order_mark_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("a: b".encode("utf-16"))
    with pytest.raises(ConfigError):
        read_file(path)
    path.write_bytes("a: b".encode("utf-8-sig"))
    node, _ = read_file(path)
    assert str(node.keys["a"]) == f"{path}:1:1"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="directory"):
        read_file(tmp_path)


def test_windows_line_ends_are_line_ends() -> None:
    node, problems = parse("a: b\r\nc: 1\r\n", "f")
    assert isinstance(node, MapNode) and not problems
    assert [n.value for n in node.entries.values() if isinstance(n, Scalar)] == ["b", 1]


@given(st.text())
def test_any_text_is_a_tree_or_a_config_error(text: str) -> None:
    try:
        parse(text, "f")
    except ConfigError as error:
        assert all(problem.where.startswith("f") for problem in error.problems)


@given(st.text(alphabet="ab:-[]{},\n \"'#&*!|>%@`?~0.", max_size=40))
def test_any_yaml_like_text_is_a_tree_or_a_config_error(text: str) -> None:
    try:
        parse(text, "f")
    except ConfigError as error:
        assert all(problem.where.startswith("f") for problem in error.problems)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_tree_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(data)
    try:
        read_file(path)
    except ConfigError as error:
        assert error.problems
