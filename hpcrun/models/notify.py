"""Who is to be told that a run has ended, and how."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hpcrun.models.base import Line, Model, Text, place_of_secret


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _once(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("names an end twice")
    return value


def _hook(value: str) -> str:
    """Never says what was given: it may be a secret."""
    if value.startswith(("env:", "file:")):
        return str(place_of_secret(value))
    if not is_hook(value):
        raise ValueError("expected https://…, http:// to this machine itself, env:VARIABLE or file:PATH")
    return value


def is_hook(url: str) -> bool:
    """Whether a document may be sent there: by https, or in the clear to this machine itself."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _here(host))


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(value: str) -> str:
    if any(c.isspace() or c == "," for c in value) or not value or value.startswith("-"):
        raise ValueError("expected one address, or a user's name")
    return value


def _argv(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("expected a list, the program and each of its arguments: [PROGRAM, ARGUMENT, …]")
    return value


End = Literal["completed", "failed", "canceled"]


class Notify(Model):
    """Who is told of the ends ``on`` of a run: ``mail`` by Slurm (of a sweep or a pipeline by hpcrun), a
    ``webhook`` that gets a JSON document, a ``command`` that reads the same."""

    on: Annotated[list[End], Field(min_length=1), BeforeValidator(_listed), AfterValidator(_once)] = [
        *("completed", "failed", "canceled")
    ]
    mail: Annotated[Line, AfterValidator(_address)] | None = None
    webhook: Annotated[Line, AfterValidator(_hook)] | None = None
    command: Annotated[list[Text], Field(min_length=1), BeforeValidator(_argv)] | None = None

    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @model_validator(mode="after")
    def _somebody(self) -> Notify:
        if self.mail is None and self.webhook is None and self.command is None:
            raise ValueError("nobody to tell: give mail, a webhook or a command")
        return self

    @property
    def mail_types(self) -> str:
        """In Slurm's words, which have one for an end, whatever it is, and one for a failure."""
        ends = "completed" in self.on or "canceled" in self.on
        return ",".join(word for word, wanted in (("END", ends), ("FAIL", "failed" in self.on)) if wanted)
