"""Being let in, over an open but unauthenticated connection: keys first, then what somebody has to type."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import LoginRequired, UnreachableError

if TYPE_CHECKING:
    from paramiko import Agent, PKey, Transport

Question = tuple[str, bool]
"""What to ask, and whether the answer may be seen as it is typed."""
Ask = Callable[[Sequence[Question]], list[str]]
"""Has somebody answer; raises LoginRequired where there is nobody."""

HINT = (
    "With fabric each command asks anew, and only where there is a terminal. Where there is an ssh program,"
    " connection.type ssh needs hpcrun login once; a key in ssh-agent may do as well."
)
_USUAL = ("id_ed25519", "id_ecdsa", "id_rsa")
_TYPED = ("keyboard-interactive", "password")


def somebody_is_there() -> bool:
    """Whether a question would be read and answered by a person."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def ask_at_terminal(questions: Sequence[Question]) -> list[str]:
    """See :data:`Ask`. What the other side wrote is shown without what terminals obey."""
    answers = []
    for text, seen in questions:
        prompt = re.sub(r"[^\n\x20-\x7e\xa0-\uffff]", "", text)
        try:
            if seen:
                sys.stderr.write(prompt)
                sys.stderr.flush()
                answers.append(sys.stdin.readline().rstrip("\n"))
            else:
                answers.append(getpass(prompt, stream=sys.stderr))
        except EOFError:
            raise LoginRequired("nobody typed an answer", hint=HINT) from None
    return answers


class Login:
    """One attempt to be let in: every key once, and each question once."""

    def __init__(self, host: str, user: str, settings: Mapping[str, object], ask: Ask | None) -> None:
        self._host, self._user, self._settings, self._ask = host, user, settings, ask
        self._locked: list[str] = []
        self._agent: Agent | None = None
        self.tried = False

    def authenticate(self, transport: Transport) -> None:
        """Raises UnreachableError, or LoginRequired where an answer is wanted or was wrong."""
        self.tried = True
        try:
            self._authenticate(transport)
        finally:
            if self._agent is not None:
                self._agent.close()

    def _authenticate(self, transport: Transport) -> None:
        import paramiko

        try:
            transport.auth_none(self._user)
            return
        except paramiko.BadAuthenticationType as error:
            allowed = list(error.allowed_types)
        if "publickey" in allowed:
            after = self._by_key(transport)
            if after is not None:
                allowed = after
        for _ in range(3):  # a password may be followed by a code
            if not allowed:
                return
            typed = [method for method in _TYPED if method in allowed]
            if not typed:
                raise self._refused(allowed)
            allowed = self._by_typing(transport, typed[0])
        if allowed:
            raise self._refused(allowed)

    def _by_key(self, transport: Transport) -> list[str] | None:
        """What is wanted besides the key that was taken; None where none was."""
        import paramiko

        for key in self._keys():
            try:
                return list(transport.auth_publickey(self._user, key))
            except paramiko.BadAuthenticationType:
                return None
            except paramiko.SSHException:
                if not transport.is_active():
                    raise UnreachableError(
                        f"{self._host} refuses {self._user}: too many keys were tried",
                        hint="Name the right one by IdentityFile, with IdentitiesOnly yes.",
                    ) from None
        return None

    def _by_typing(self, transport: Transport, method: str) -> list[str]:
        import paramiko

        if self._ask is None:
            raise LoginRequired(f"{self._host} asks {self._user} for a password or a code", hint=HINT)
        ask = self._ask
        try:
            if method == "password":
                (answer,) = ask([(f"{self._user}@{self._host}'s password: ", False)])
                return list(transport.auth_password(self._user, answer, fallback=False))
            return list(
                transport.auth_interactive(self._user, lambda title, text, asked: self._answers(asked))
            )
        except paramiko.AuthenticationException as error:
            raise LoginRequired(f"{self._host} did not take the answer", hint="Try again.") from error

    def _answers(self, asked: Sequence[Question]) -> list[str]:
        assert self._ask is not None
        # The first line says whose question it is: the words are the server's.
        first = f"({self._user}@{self._host}) "
        return self._ask([(first + text, seen) for text, seen in asked]) if asked else []

    def _refused(self, allowed: Sequence[str]) -> UnreachableError:
        if self._locked:
            return LoginRequired(
                f"{self._host} asks for a key, and {', '.join(self._locked)} needs a passphrase",
                hint="ssh-add takes it once, for as long as the agent runs.",
            )
        return UnreachableError(
            f"{self._host} refuses {self._user}: it takes {' or '.join(allowed)}, and no key here was right",
            hint="Keys are taken from ssh-agent, from IdentityFile of ssh_config, and from ~/.ssh/id_*.",
        )

    def _keys(self) -> Iterator[PKey]:
        """The agent's keys, those that the configuration names first; then keys in files."""
        files = self._files()
        public = {blob for file in files if (blob := _public(file)) is not None}
        agent = self._agents()
        named = [key for key in agent if key.asbytes() in public]
        only = str(self._settings.get("identitiesonly", "no")).lower() == "yes"
        yield from named
        if not only:
            yield from (key for key in agent if key.asbytes() not in public)
        seen = {key.asbytes() for key in named}
        for file in files:
            if _public(file) not in seen:
                yield from self._from_file(file)

    def _files(self) -> list[Path]:
        named = self._settings.get("identityfile")
        if isinstance(named, list):
            return [Path(name).expanduser() for name in named if name.lower() != "none"]
        return [Path("~/.ssh", name).expanduser() for name in _USUAL]

    def _agents(self) -> list[PKey]:
        import paramiko

        if str(self._settings.get("identityagent", "")).lower() == "none":
            return []
        try:
            self._agent = paramiko.Agent()
            return list(self._agent.get_keys())
        except paramiko.SSHException:
            return []

    def _from_file(self, file: Path) -> Iterator[PKey]:
        """The key with its certificate, where one lies beside it, and without."""
        if not file.is_file():
            return
        passphrase = None
        if _is_locked(file):
            if self._ask is None:
                self._locked.append(str(file))
                return
            (passphrase,) = self._ask([(f"Passphrase of {file}: ", False)])
        certificate = file.with_name(f"{file.name}-cert.pub")
        if certificate.is_file() and (key := _load(file, passphrase)) is not None:
            try:
                key.load_certificate(str(certificate))
                yield key
            except (ValueError, OSError):
                pass
        if (key := _load(file, passphrase)) is not None:
            yield key


def _load(file: Path, passphrase: str | None) -> PKey | None:
    import paramiko

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key_file(str(file), passphrase)
        except (paramiko.SSHException, ValueError, OSError):
            continue  # of another kind, or not to be read: then there is no such key
    return None


def _is_locked(file: Path) -> bool:
    import paramiko

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            kind.from_private_key_file(str(file))
            return False
        except paramiko.PasswordRequiredException:
            return True
        except (paramiko.SSHException, ValueError, OSError):
            continue
    return False


def _public(file: Path) -> bytes | None:
    """The public half, where it lies beside the private one: known without a passphrase."""
    import base64

    try:
        return base64.b64decode(file.with_name(f"{file.name}.pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
