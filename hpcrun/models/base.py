"""What all models share: strict fields, whole-string names, units that read and write themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from hpcrun.quoting import HIDDEN, Secret, is_variable_name
from hpcrun.units import Duration, Memory


class Model(BaseModel):
    """Immutable, compared by value, unknown keys refused, strings never turned into numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False)

    def __init__(self, **values: object) -> None:
        super().__init__(**values)


@dataclass(frozen=True, eq=False)
class Origins:
    """Where the values of a model were written, by key path, and what was written there.

    Kept with a model for the sake of later errors; no part of what the model says, so all are equal.
    """

    places: Mapping[tuple[str | int, ...], Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    __hash__ = None  # type: ignore[assignment]


def _one_line(value: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("may not hold line breaks or control characters")
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("may not hold a NUL character")
    return value


def _variable(value: str) -> str:
    if not is_variable_name(value):
        raise ValueError("is not a name that a shell can export (letters, digits, _; not a digit first)")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _text_of_scalar(value: Any) -> Any:
    """YAML users write ``VAR: 1`` and mean the text."""
    if isinstance(value, bool):
        raise ValueError('write a true or false value as text, in quotes: "true" or "1"')
    if isinstance(value, (int, float)):
        return repr(_finite(value))
    return value


def place_of_secret(value: object) -> str | Secret:
    """Never says what was given: it may be the secret itself, in the wrong place."""
    if isinstance(value, Secret) or value == HIDDEN:
        return value
    kind, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "env" and is_variable_name(name):
        return f"env:{name}"
    if kind == "file" and name.startswith(("/", "~")) and name.isprintable():
        return f"file:{name}"
    raise ValueError(
        "say where the value is, never the value itself: env:VARIABLE, or file:PATH (absolute, or from ~)"
    )


Line = Annotated[str, AfterValidator(_one_line)]
"""Text on one line."""

Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_line)]
"""A name of something of Slurm's: partition, account, QOS, …"""

Text = Annotated[str, AfterValidator(_no_nul)]
"""Any text without NUL."""

ExperimentName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$"), AfterValidator(_one_line)
]

Variable = Annotated[str, AfterValidator(_variable)]
EnvironmentVariables = dict[Variable, Annotated[Text, BeforeValidator(_text_of_scalar)]]
SecretField = Annotated[
    Any,
    PlainValidator(place_of_secret),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^(env:[A-Za-z_][A-Za-z0-9_]*|file:[/~].+)$"}),
]
Secrets = dict[Variable, SecretField]
"""Where the value of each is, or a :class:`Secret` that was given in Python."""

Tags = dict[Name, Annotated[Text, BeforeValidator(_text_of_scalar)]]

Count = Annotated[int, Field(ge=1, le=1_000_000)]

DurationField = Annotated[
    Duration,
    PlainValidator(Duration.parse),
    PlainSerializer(lambda d: d.slurm, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["90m", "1-12:00:00", "2d"]}),
]
MemoryField = Annotated[
    Memory,
    PlainValidator(Memory.parse),
    PlainSerializer(lambda m: m.slurm, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["120G", "500M", "1.5T"]}),
]


def only_one(given: Sequence[str]) -> None:
    """Raises ValueError where several keys are given of which one may be."""
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: keep one")


class OneOf(Model):
    """A section that has exactly one of its keys."""

    @model_validator(mode="after")
    def _one(self) -> OneOf:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        only_one(given)
        if not given:
            raise ValueError(f"expected one of {', '.join(type(self).model_fields)}")
        return self
