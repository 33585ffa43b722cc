"""Run folders on another machine, reached by a shell.

Nothing is installed there: each step is one script (:mod:`hpcrun.shells.scripts`). The snapshot goes into a
bare store below the site's root, as one pack of what is missing there, or, where there is no git, by rsync
into a folder of its own. What a run's job says is brought home as it is asked for, and read from there.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcrun.errors import CommandError, ConfigError, UnreachableError
from hpcrun.history.files import make_folder
from hpcrun.history.homes import make_home as make_home
from hpcrun.history.paths import RunPaths, WorkspacePaths
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.history.tables import Table
from hpcrun.places.base import Found, Given, Here, OnSend
from hpcrun.places.copying import send_copy, workspace_word
from hpcrun.places.giving import Giving
from hpcrun.places.refs import array_folder, logs_of, ref_of, submitted_from, task_of
from hpcrun.places.roots import VARIABLE
from hpcrun.places.roots import root_text as root_text
from hpcrun.places.sending import NO_ENVIRONMENT, Sending
from hpcrun.places.status import read_status
from hpcrun.places.table import table_text
from hpcrun.places.writing import private, write
from hpcrun.quoting import Secret
from hpcrun.schedulers.base import Scheduler
from hpcrun.schedulers.slurmremote import RemoteSlurmScheduler
from hpcrun.shells.base import RemoteShell, Result, Stdin
from hpcrun.shells.scripts import source
from hpcrun.snapshot import SnapshotStore

if TYPE_CHECKING:
    from hpcrun.models.site import Site

_ASK, _SEND = 60.0, 1800.0
_MOVED, _NOT_SET, _NO_SECRETS = 93, 97, 98
_CONNECTIONS = 3
"""How often a run is sent on its way, where the connection breaks."""


class FarPlace:
    """See :class:`hpcrun.places.base.Place`."""

    def __init__(self, site: Site, shell: RemoteShell, workspace: Path) -> None:
        self._site = site
        self._shell = shell
        self._cache = WorkspacePaths(workspace / ".hpcrun").places / f"{site.name}.json"
        self._known: dict[str, Any] = {}
        self._spelled = site.root or "~/.hpcrun"
        self._root: str | None = None

    @property
    def host(self) -> str | None:
        return self._shell.host

    def run_dir(self, home: Path, run_id: str, *, ask: bool = True) -> str:
        """Asked for a run that is to be sent: the site is reached before anything of it is written down."""
        root = self.root(ask=False)
        if ask and root != self._root:
            root = self.root()
        elif ask:
            with self._shell.rsh():
                pass
        return f"{root}/runs/{run_id}"

    def here(self) -> Here:
        return Here()

    def environments(self, workspace: Path, *, ask: bool = True) -> str:
        spelled = self._site.environments.root
        if spelled is None:
            return f"{self.root(ask=ask)}/environments"
        if not spelled.startswith("/") or VARIABLE.search(spelled):
            return self._expanded(spelled, ask=ask)
        return spelled

    def _expanded(self, spelled: str, *, ask: bool) -> str:
        """A path there, for which the site is asked once."""
        self.root(ask=ask)
        known = self._known.get("environments")
        if known and known[0] == spelled:
            return str(known[1])
        if not ask:
            return spelled
        result = self._shell.script(root_text(spelled) + source("where"), [], timeout=_ASK)
        if result.rc == _NOT_SET:
            raise self._not_set(result, "environments.root", spelled)
        result.check(f"asking {self.host} where environments lie")
        path = result.stdout.removeprefix("root ").removesuffix("\n")
        self._known["environments"] = [spelled, path]
        if self._root is not None:
            self._remember(self._root)
        return path

    def root(self, *, ask: bool = True) -> str:
        """The site's root, expanded there; known from the last time, or asked for."""
        if self._root is None:
            self._root = self._remembered()
        if self._root is None and ask:
            result = self._script(("where",), [], timeout=_ASK)
            if result.rc == _NOT_SET:
                raise self._not_set(result)
            result.check(f"asking {self.host} where runs lie")
            self._remember(result.stdout.removeprefix("root ").removesuffix("\n"))
        return self._root or self._spelled

    def _not_set(self, result: Result, key: str = "root", spelled: str = "") -> ConfigError:
        return ConfigError(
            f"the {key} of site {self._site.name!r} is {spelled or self._spelled}, and on {self.host} "
            f"{result.stdout.strip()} is not set",
            hint="Does only a login set it? Then connection: {login_shell: true} in the site's file.",
        )

    def _remembered(self) -> str | None:
        try:
            known = json.loads(self._cache.read_text(encoding="utf-8"))
            if known["asked"] != [self.host, self._spelled]:
                return None
            self._known = known
            return str(known["root"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, root: str) -> None:
        if not root.startswith("/") or any(c in root for c in "\n\r\0"):
            raise ConfigError(f"the root of site {self._site.name!r} is no absolute path there: {root!r}")
        self._root = root
        self._known = {**self._known, "asked": [self.host, self._spelled], "root": root}
        if self._cache.parent.parent.is_dir():  # a workspace comes to be with its first run, not before
            with private():
                make_folder(self._cache.parent)
                write(self._cache, json.dumps(self._known))

    @property
    def trees(self) -> list[str]:
        """Snapshots that this workspace has sent there: the last ones, that is."""
        return [str(tree) for tree in self._known.get("trees", [])]

    @property
    def tools(self) -> list[str]:
        """What the site can unpack a snapshot with; none as long as it was not asked."""
        return [str(tool) for tool in self._known.get("tools", [])]

    @property
    def lib(self) -> str:
        """What the site keeps of the modules that scripts use, see :mod:`hpcrun.places.lib`."""
        return str(self._known.get("lib", ""))

    def note(
        self, *, tree: str | None = None, tools: list[str] | None = None, lib: str | None = None
    ) -> None:
        """Something to be remembered of the site. It may be wrong one day, and then costs a question more."""
        if tree is not None:
            self._known["trees"] = [*(known for known in self.trees if known != tree), tree][-30:]
        if tools is not None:
            self._known["tools"] = tools
        if lib is not None:
            self._known["lib"] = lib

    def _script(
        self, names: tuple[str, ...], words: list[str], *, timeout: float, stdin: Stdin = None
    ) -> Result:
        text = root_text(self._spelled) + source(*names)
        return self._shell.script(text, words, timeout=timeout, stdin=stdin)

    def fill(self, history: History, record: RunRecord, values: Mapping[str, Secret] | None) -> bool:
        """A connection that breaks on the way is made anew, twice; UnreachableError after that: what there is
        lies under names that nobody uses, and whoever fills next goes on from there."""
        home = history.paths.run(record.id)
        self.root(ask=False)  # and what else is known of the site
        with private():
            make_home(home)
            if record.type == "function":
                home.results.mkdir(exist_ok=True)
            write(home.config, record.config["yaml"])
            write(home.script, str(record.submission["script"]))
            return self._send(history, record, values)

    def _send(
        self,
        history: History,
        record: RunRecord,
        values: Mapping[str, Secret] | None,
        array: tuple[str, str] | None = None,
    ) -> bool:
        for _ in range(_CONNECTIONS):
            sending = Sending(self, history, record, values, array)
            with self._hinting(record):
                result = sending.run()
            if not result.lost:
                break
        self._judge(record, result, sending)
        if sending.news or not self._cache.exists():
            self._remember(sending.root)
        return result.ok

    def share(self, history: History, record: RunRecord, table: Table, script: str) -> None:
        self.root(ask=False)
        record.submission["script"] = table.script
        with private():
            self._send(history, record, None, (table.leader, script))
        words = [submitted_from(record), table.script, os.urandom(6).hex()]
        result = self._shell.script(source("table"), words, timeout=_SEND, stdin=table_text(table))
        self._check_array(result, record)

    def unshare(self, record: RunRecord) -> None:
        self.remove(record, last=True)

    def _kept(self, record: RunRecord) -> str:
        return (
            "Nothing has been submitted yet. The run is kept, and submitted by the next hpcrun show or ls "
            f"that gets to {self.host}; not if you say hpcrun cancel {record.id}."
        )

    def _judge(self, record: RunRecord, result: Result, sending: Sending) -> None:
        """Raises what a result that is none amounts to."""
        if result.ok or result.rc == NO_ENVIRONMENT:
            return
        if result.timed_out:
            raise UnreachableError(
                f"{self.host}: while the run was being sent, {result.lost or 'nothing came back in time'}",
                hint=self._kept(record),
            )
        if result.rc == _MOVED:
            self._cache.unlink(missing_ok=True)
            self._root, self._known = None, {}
            raise ConfigError(
                f"the root of site {self._site.name!r} was {sending.root}, and is now "
                f"{result.stdout.strip()}",
                hint="Submit again: the script names the folder.",
            )
        if result.rc == _NOT_SET:
            raise self._not_set(result)
        if result.rc == _NO_SECRETS and sending.unreadable is not None:
            raise sending.unreadable
        words_there = [line for line in result.stderr.splitlines() if line.strip()]
        said = "\n".join(words_there[-5:]).replace("hpcrun: ", "")
        raise CommandError(f"{self.host}: {said or f'exit code {result.rc}'}")

    def ask_for(self, words: list[str]) -> Result:
        """Whether a snapshot is there; see known.sh."""
        return self._script(("store", "known"), words, timeout=_ASK)

    def ask_to_keep(self, words: list[str], stdin: Stdin) -> Result:
        """The step that brings the call of a function; see call.sh."""
        return self._script(("store", "call"), words, timeout=_SEND, stdin=stdin)

    def ask_to_fill(self, words: list[str], stdin: Stdin) -> Result:
        """The step that makes a run's folder complete; see fill.sh."""
        return self._script(("folders", "store", "fill"), words, timeout=_SEND, stdin=stdin)

    @contextmanager
    def copying(self) -> Iterator[bool]:
        """For one process of this workspace at a time; whether it had to wait for another."""
        with private():
            make_folder(self._cache.parent)
        fd = os.open(self._cache.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield False
            except BlockingIOError:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield True
        finally:
            os.close(fd)

    def send_copy(self, store: SnapshotStore, tree: str, root: str, others: list[str]) -> Result:
        return send_copy(self._shell, store, tree, root, others, str(self._cache.parent))

    def give(
        self, record: RunRecord, given: Given, path: Path, *, trusted: bool, on_send: OnSend | None
    ) -> None:
        giving = Giving(self._shell, record.run_dir, given, path, workspace_word(str(self._cache.parent)))
        with self._hinting(record):
            giving.give(self.copying, trusted, on_send)

    @contextmanager
    def _hinting(self, record: RunRecord) -> Iterator[None]:
        """What becomes of the run is said where the site cannot be reached."""
        try:
            yield
        except UnreachableError as exc:
            raise type(exc)(exc.message, hint=f"{exc.hint or ''} {self._kept(record)}".strip()) from exc

    def gather(self, records: Sequence[RunRecord], script: str) -> None:
        links = "".join(f"{index} {log}\n" for index, log in logs_of(records).items())
        words = [submitted_from(records[0]), script, os.urandom(6).hex()]
        result = self._shell.script(source("array"), words, timeout=_SEND, stdin=links)
        self._check_array(result, records[0])

    def _check_array(self, result: Result, record: RunRecord) -> None:
        if result.lost or result.timed_out:
            raise UnreachableError(
                f"{self.host}: while the array was being sent, {result.lost or 'nothing came back in time'}",
                hint=self._kept(record),
            )
        result.check(f"making the folder of an array on {self.host}")

    def script(self, history: History, record: RunRecord) -> str:
        return history.paths.run(record.id).script.read_text(encoding="utf-8")

    def look(self, history: History, records: Iterable[RunRecord]) -> None:
        wanted = {record.id: record for record in records}
        if not wanted:
            return
        folders = "".join(f"{record.run_dir}\n" for record in wanted.values())
        result = self._shell.script(source("words"), timeout=_ASK, stdin=folders)
        result.check(f"asking {self.host} what the jobs say")
        with private():
            for run_id, said in _said(result.stdout):
                if run_id in wanted:
                    _keep(history.paths.run(run_id), said)

    def find(self, history: History, record: RunRecord, scheduler: Scheduler) -> Found:
        assert isinstance(scheduler, RemoteSlurmScheduler)
        self.look(history, [record])
        status = read_status(history.seen(record).status)
        if status is not None and status.job_id:
            return Found(status.job_id, answered=True)
        token = str(record.submission.get("tries", 0))
        job_id, word = scheduler.recover(submitted_from(record), token)
        if job_id is not None:
            return Found(job_id, answered=True)
        if word in ("never", "gone"):
            return Found(None, answered=True, never=True)
        answer = scheduler.query([replace(ref_of(record), job_id=None)])
        facts = answer.facts.get(record.id)
        return Found(facts.job_id if facts else None, answered=answer.complete and word == "dead")

    def remove(self, record: RunRecord, *, last: bool = False) -> None:
        """Delete the run's folder there, if it certainly is that run's. Raises CommandError where not.
        ``last``: of trials that share an array's folder, no other is left."""
        name, index = task_of(record)
        task = [array_folder(record.run_dir, name), str(index)] if name else []
        if name and record.submission["array"].get("table"):
            task.append("last" if last else "others")
        result = self._shell.script(source("remove"), [record.run_dir, record.id, *task], timeout=_SEND)
        if result.lost or result.timed_out or not result.ok:
            said = result.lost or result.stderr.strip() or "no answer"
            raise CommandError(f"{self.host}:{record.run_dir} was not deleted: {said}")

    def forget(self, history: History, record: RunRecord) -> None:
        try:
            self._shell.script(source("forget"), [f"{record.run_dir}/secrets.sh"], timeout=_ASK)
        except CommandError:
            pass  # job.sh takes them away itself; sync looks once more


def _said(text: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """What each run said, by letter."""
    run_id, said = "", dict[str, list[str]]()
    for line in text.split("\n"):
        if line.startswith("R "):
            if run_id:
                yield run_id, said
            run_id, said = line[2:], {}
        elif line[1:2] == " ":
            said.setdefault(line[0], []).append(line[2:])
        elif line == "G":
            said["G"] = []
    if run_id:
        yield run_id, said


def _keep(home: RunPaths, said: dict[str, list[str]]) -> None:
    make_home(home)
    owner = said.get("C", [""])[0]
    if owner and not (home.claim.is_symlink() and os.readlink(home.claim) == owner):  # noqa: PTH115 (text)
        home.claim.unlink(missing_ok=True)
        home.claim.symlink_to(owner)
    if "A" in said:
        write(home.attempts, "".join(f"{line}\n" for line in said["A"]))
    log = home.system_logs / "job.txt"
    if "J" in said and (not log.exists() or log.stat().st_size < 16384):
        write(log, "\n".join(said["J"]))
    if "S" in said:  # last: it says that the run has ended
        write(home.status, f"{said['S'][0]}\n")
