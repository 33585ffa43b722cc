"""What a hyperparameter may be: Azure ML's expressions, with their maths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
)

from hpcrun.models.base import Model, OneOf, Text

LARGEST_EXPONENT = 700.0
"""Above e to the power of this, a number is no longer finite."""

TAILS = 9.0
"""Further from its mean, in standard deviations, no value of a normal distribution is drawn."""

MOST_MULTIPLES = 2.0**52
"""Of Q, that a value may be."""

FORMS: dict[str, tuple[str, ...]] = {
    "uniform": ("MIN", "MAX"),
    "quniform": ("MIN", "MAX", "Q"),
    "loguniform": ("MIN", "MAX"),
    "qloguniform": ("MIN", "MAX", "Q"),
    "normal": ("MU", "SIGMA"),
    "qnormal": ("MU", "SIGMA", "Q"),
    "lognormal": ("MU", "SIGMA"),
    "qlognormal": ("MU", "SIGMA", "Q"),
}
"""The numbers that each distribution takes."""


def _numbers(kind: str) -> AfterValidator:
    names = FORMS[kind]

    def check(values: list[int | float]) -> list[int | float]:
        if len(values) != len(names):
            raise ValueError(f"expected [{', '.join(names)}], found {len(values) or 'none'} of them")
        given = dict(zip(names, values, strict=True))
        for name, value in given.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number")
        if "MIN" in given and not given["MIN"] < given["MAX"]:
            raise ValueError(f"MIN must be less than MAX: {given['MIN']} is not less than {given['MAX']}")
        if "SIGMA" in given and not given["SIGMA"] > 0:
            raise ValueError(f"SIGMA must be more than 0, and is {given['SIGMA']}")
        if "Q" in given and not given["Q"] > 0:
            raise ValueError(f"Q must be more than 0, and is {given['Q']}")
        if message := _too_far(kind, given):
            raise ValueError(message)
        return values

    return AfterValidator(check)


def _too_far(kind: str, given: Mapping[str, float]) -> str:
    """What is wrong with numbers whose draws are not all finite, or more than can be counted."""
    if "MIN" in given:
        low, high = given["MIN"], given["MAX"]
    else:
        low, high = (given["MU"] + tails * given["SIGMA"] for tails in (-TAILS, TAILS))
    q = given.get("Q")
    if "log" in kind:
        if high > LARGEST_EXPONENT:
            example = f"{kind}: [-6.9, -2.3{', Q' if q else ''}]"
            return f"the numbers are exponents of e, and too large: for 0.001 to 0.1 write {example}"
        low, high = 0.0, math.exp(high)
    if not math.isfinite(high - low):
        return "the numbers are too far apart"
    if q and max(abs(low), abs(high)) / q > MOST_MULTIPLES:
        return f"Q is too small for them: {q}"
    return ""


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _option(value: Any) -> Any:
    """Values of numpy and the like as Python's own."""
    item = getattr(value, "item", None)
    return item() if callable(item) and not isinstance(value, (str, Model, Mapping)) else value


def _some(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("has no options: give at least one")
    seen: list[tuple[type, Any]] = []
    for value in values:
        plain = value.value if isinstance(value, Option) else value
        if (type(plain), plain) in seen:
            raise ValueError(f"{plain} stands in it twice")
        seen.append((type(plain), plain))
    return values


def parameter_name(value: Any) -> Any:
    return value.removeprefix("--") if isinstance(value, str) and len(value) > 2 else value


def _once(value: Any) -> Any:
    if isinstance(value, Mapping):
        for name in value:
            if isinstance(name, str) and name.startswith("--") and parameter_name(name) in value:
                raise ValueError(f"{parameter_name(name)} and {name} are the same: keep one")
    return value


Value = bool | int | float | str
"""What a hyperparameter is in one trial."""

Number = StrictInt | StrictFloat
ParameterName = Annotated[
    str, BeforeValidator(parameter_name), Field(pattern=r"^-?[A-Za-z_][A-Za-z0-9_.-]{0,253}$")
]
ScalarValue = Annotated[StrictBool | StrictInt | StrictFloat | Text, AfterValidator(_finite)]
Numbers = list[Number]


class Option(Model):
    """One option of a choice, and the hyperparameters that there are only where it is chosen.

    >>> choice("sgd", Option("adam", {"beta1": uniform(0.8, 0.99)}))
    """

    value: Annotated[ScalarValue, BeforeValidator(_option)]
    space: Space = {}

    def __init__(self, value: Any = ..., space: Any = ..., **more: object) -> None:
        given = {"value": value, "space": space}
        super().__init__(**{name: each for name, each in given.items() if each is not ...}, **more)


class Expression(OneOf):
    """How the values of one hyperparameter are drawn: one of these keys.

    ``Q`` rounds to its multiples; where it is a whole number, so are the values.
    """

    choice: (
        Annotated[list[Annotated[ScalarValue | Option, BeforeValidator(_option)]], AfterValidator(_some)]
        | None
    ) = None
    uniform: Annotated[Numbers, _numbers("uniform")] | None = None
    quniform: Annotated[Numbers, _numbers("quniform")] | None = None
    loguniform: Annotated[Numbers, _numbers("loguniform")] | None = None
    qloguniform: Annotated[Numbers, _numbers("qloguniform")] | None = None
    normal: Annotated[Numbers, _numbers("normal")] | None = None
    qnormal: Annotated[Numbers, _numbers("qnormal")] | None = None
    lognormal: Annotated[Numbers, _numbers("lognormal")] | None = None
    qlognormal: Annotated[Numbers, _numbers("qlognormal")] | None = None
    randint: Annotated[int, Field(ge=1, le=2**53)] | None = None

    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @property
    def kind(self) -> str:
        """Such as ``uniform``."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def numbers(self) -> tuple[float, ...]:
        """What a distribution was given."""
        return tuple(getattr(self, self.kind))

    @property
    def options(self) -> list[Option]:
        """Those of a choice; of no choice, none."""
        return [each if isinstance(each, Option) else Option(each) for each in self.choice or ()]


Space = Annotated[dict[ParameterName, Expression], BeforeValidator(_once)]
"""Hyperparameters by their names."""

Option.model_rebuild()
Expression.model_rebuild()


def every(space: Mapping[str, Expression], path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """``(path, name, expression)`` of every hyperparameter, those of options after the choice's own."""
    for name, expression in space.items():
        here = (*path, name)
        yield here, name, expression
        for index, option in enumerate(expression.options):
            yield from every(option.space, (*here, "choice", index, "space"))


def choice(*options: Any) -> Expression:
    """One of these: ``choice("sgd", "adam")``, ``choice([16, 32])``, ``choice(range(3))``."""
    if len(options) == 1 and isinstance(options[0], Iterable) and not isinstance(options[0], (str, Mapping)):
        one = options[0]
        if not isinstance(one, (Option, bytes)):
            options = tuple(one)
    return Expression(choice=[*options])


def uniform(min_value: float, max_value: float) -> Expression:
    """Evenly from min_value to max_value."""
    return Expression(uniform=[min_value, max_value])


def quniform(min_value: float, max_value: float, q: float) -> Expression:
    """``round(uniform(min_value, max_value) / q) * q``."""
    return Expression(quniform=[min_value, max_value, q])


def loguniform(min_value: float, max_value: float) -> Expression:
    """``exp(uniform(min_value, max_value))``: the two are exponents of e."""
    return Expression(loguniform=[min_value, max_value])


def qloguniform(min_value: float, max_value: float, q: float) -> Expression:
    """``round(exp(uniform(min_value, max_value)) / q) * q``."""
    return Expression(qloguniform=[min_value, max_value, q])


def normal(mu: float, sigma: float) -> Expression:
    """Normally distributed, with mean mu and standard deviation sigma."""
    return Expression(normal=[mu, sigma])


def qnormal(mu: float, sigma: float, q: float) -> Expression:
    """``round(normal(mu, sigma) / q) * q``."""
    return Expression(qnormal=[mu, sigma, q])


def lognormal(mu: float, sigma: float) -> Expression:
    """``exp(normal(mu, sigma))``."""
    return Expression(lognormal=[mu, sigma])


def qlognormal(mu: float, sigma: float, q: float) -> Expression:
    """``round(exp(normal(mu, sigma)) / q) * q``."""
    return Expression(qlognormal=[mu, sigma, q])


def randint(upper: int) -> Expression:
    """A whole number from 0 to upper - 1."""
    return Expression(randint=upper)
