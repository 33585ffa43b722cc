"""What the target gets of trials that are written down together: one working copy, a table with a line for
each, the text that their job scripts have in common, and the script of the job whose tasks they are.

Each task makes its own run's folder from these, all that :meth:`Place.fill` makes of it, the run's script
last; then it goes on with that, as any run does. Done again, by a requeue or a second job, it finds the
folder there, and the run's claim decides.
"""

from __future__ import annotations

import posixpath
import re

from hpcrun.history.record import RunRecord
from hpcrun.history.tables import Table
from hpcrun.places.refs import array_folder
from hpcrun.quoting import ShellText, ShellWord, argv_text

TABLE, TEMPLATE, CODE, LIB = "table", "template.sh", "code", "lib"
"""Their names in the array's folder, where ``job.sh`` is the last to come."""

_WORD = re.compile(r"[A-Za-z0-9_./@%+,][A-Za-z0-9_./@%+,-]*(?::[A-Za-z0-9_./@%+,-]+)*")
_LONGEST = 255

_SCRIPT = """\
set -u
umask 077
hpcrun_fail() {
    printf 'hpcrun: %s\\n' "$1" >&2
    exit 101
}
cd -- "$hpcrun_array" || exit 101
hpcrun_line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1)){p;q;}" table)
read -r -a hpcrun_words <<<"$hpcrun_line"
[ "${#hpcrun_words[@]}" -eq $((${#hpcrun_marks[@]} + 1)) ] ||
    hpcrun_fail "the table has no trial $SLURM_ARRAY_TASK_ID"
hpcrun_id=${hpcrun_words[0]}
hpcrun_run=$hpcrun_runs/$hpcrun_id
hpcrun_mine=$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
hpcrun_log=$hpcrun_array/$SLURM_ARRAY_TASK_ID.txt
mkdir -p -- "$hpcrun_run/system_logs" || hpcrun_fail "cannot make $hpcrun_run"
# Slurm made the log before there was a place for it. It is moved there, and goes on: it is open.
if [ -f "$hpcrun_log" ] && ! [ -L "$hpcrun_log" ]; then
    chmod 600 -- "$hpcrun_log"
    [ ! -s "$hpcrun_run/system_logs/job.txt" ] || cat -- "$hpcrun_run/system_logs/job.txt" >>"$hpcrun_log"
    mv -f -- "$hpcrun_log" "$hpcrun_run/system_logs/job.txt" &&
        ln -s -- "../../runs/$hpcrun_id/system_logs/job.txt" "$hpcrun_log"
fi
hpcrun_place() { # NAME: a copy of a folder, whole under its name; of two that make it, one is first
    local new="$hpcrun_run/.$1.$hpcrun_mine"
    [ ! -d "$hpcrun_run/$1" ] || return 0
    rm -rf -- "$new"
    cp -R -P -p -- "$1" "$new" && { [ -d "$hpcrun_run/$1" ] || mv -T -- "$new" "$hpcrun_run/$1"; }
    rm -rf -- "$new"
    [ -d "$hpcrun_run/$1" ] || hpcrun_fail "cannot make $hpcrun_run/$1"
}
if ! [ -e "$hpcrun_run/job.sh" ]; then
    hpcrun_place code
    [ ! -d lib ] || hpcrun_place lib
    for hpcrun_name in code/outputs code/logs user_logs metrics; do
        mkdir -p -- "$hpcrun_run/$hpcrun_name" || hpcrun_fail "cannot make $hpcrun_run/$hpcrun_name"
    done
    hpcrun_edits=(-e "s#$hpcrun_any#$hpcrun_id#g")
    for ((hpcrun_at = 0; hpcrun_at < ${#hpcrun_marks[@]}; hpcrun_at++)); do
        hpcrun_edits+=(-e "s#${hpcrun_marks[hpcrun_at]}#${hpcrun_words[hpcrun_at + 1]}#g")
    done
    # Last: it says that the rest is there.
    if ! LC_ALL=C sed "${hpcrun_edits[@]}" template.sh >"$hpcrun_run/.job.sh.$hpcrun_mine" ||
        ! mv -f -- "$hpcrun_run/.job.sh.$hpcrun_mine" "$hpcrun_run/job.sh"; then
        hpcrun_fail "cannot write $hpcrun_run/job.sh"
    fi
    rm -rf -- "$hpcrun_run"/.code.* "$hpcrun_run"/.lib.* "$hpcrun_run"/.job.sh.* # of those who were cut off
fi
cd -- "$hpcrun_run" || exit 101
exec bash -- "$hpcrun_run/job.sh"
"""


def is_plain(value: object) -> bool:
    """Whether a value stands in a script, at any depth, as it is."""
    if isinstance(value, (bool, int)):
        return True
    if isinstance(value, float):
        return value - value == 0  # finite
    text = str(value)
    return len(text) <= _LONGEST and _WORD.fullmatch(text) is not None and str(ShellWord(text)) == text


def table_text(table: Table) -> str:
    """A line for each trial: its run, and its values as the script gets them."""
    return "".join(f"{' '.join([line.id, *map(table.word, line.values)])}\n" for line in table.lines)


def table_script(table: Table, record: RunRecord) -> str:
    """The script of the job; ``record`` is that of any of its trials."""
    from hpcrun.launchers.tasks import shared_directives

    if table.pack:
        return table.pack.replace(leader_mark(table), table.leader)
    heading = f"# {len(table.lines)} trials, each a task of this job. Rendered by hpcrun."
    folder = array_folder(record.run_dir, table.leader)
    return _script(table, record, folder, [*shared_directives(table.script), heading])


def leader_mark(table: Table) -> str:
    """What the script of a pack's job has in the place of the table's leader, before that is certain."""
    return f"HPCRUNLEADx{table.run[-8:]}X"


def trial_script(table: Table, record: RunRecord, folder: str) -> str:
    """What the job of a pack starts each trial with; ``folder`` is the job's."""
    return _script(table, record, folder, ["# A trial's part of the job. Rendered by hpcrun."])


def _script(table: Table, record: RunRecord, folder: str, head: list[str]) -> str:
    runs = posixpath.dirname(record.run_dir)
    lines = [
        "#!/bin/bash",
        *head,
        str(ShellText("hpcrun_array={}", ShellWord(folder))),
        str(ShellText("hpcrun_runs={}", ShellWord(runs))),
        str(ShellText("hpcrun_any={}", ShellWord(table.run))),
        str(ShellText("hpcrun_marks=({})", argv_text(table.marks))),
    ]
    return "".join(f"{line}\n" for line in lines) + _SCRIPT
