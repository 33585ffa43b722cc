#!/bin/bash
# a `title` $(touch canary) 'with' "quotes" — 雪 #SBATCH --wrap=x
# Rendered by hpcrun. Called as "job.sh" by the scheduler, and as "job.sh rank" for each process.
# shellcheck disable=SC1003,SC2016,SC2329
set -u -o pipefail
umask 077

export HPCRUN_RUN_ID=A-name_that-is_allowed_20260131-120000_abcdefgh
export HPCRUN_EXPERIMENT=A-name_that-is_allowed
export HPCRUN_TARGET=site
export HPCRUN_RUN_DIR='/scratch/two \lines `alice`'"'"'s $(touch canary)/runs/A-name_that-is_allowed_20260131-120000_abcdefgh'
export HPCRUN_OUTPUT_DIR="$HPCRUN_RUN_DIR/code/outputs"
export HPCRUN_LOG_DIR="$HPCRUN_RUN_DIR/code/logs"
export HPCRUN_JOB_ID=${HPCRUN_JOB_ID:-local-$$}
export HPCRUN_ATTEMPT=${HPCRUN_ATTEMPT:-1}
HPCRUN_NODES=$(hostname)
export HPCRUN_NODES

# One JSON object, whole or not at all: a reader never finds half a status.
hpcrun_json() { # VARIABLE TEXT
    local text=${2//\\/\\\\}
    text=${text//\"/\\\"}
    printf -v "$1" '"%s"' "${text//[[:cntrl:]]/ }"
}
hpcrun_status() { # STATE EXIT_CODE STAGE MESSAGE
    local now ended=null line temporary="$HPCRUN_RUN_DIR/.status.$HPCRUN_JOB_ID.$$"
    local run job signal nodes message
    now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    [ "$1" = running ] || ended="\"$now\""
    : "${hpcrun_started:=$now}"
    hpcrun_json run "$HPCRUN_RUN_ID"
    hpcrun_json job "$HPCRUN_JOB_ID"
    hpcrun_json signal "${hpcrun_signal-}"
    hpcrun_json nodes "$HPCRUN_NODES"
    hpcrun_json message "$4"
    printf -v line '{"version":1,"run_id":%s,"job_id":%s,"attempt":%d,"state":"%s","stage":"%s","started":"%s","ended":%s,"exit_code":%s,"signal":%s,"nodes":%s,"message":%s}' \
        "$run" "$job" "$HPCRUN_ATTEMPT" "$1" "$3" "$hpcrun_started" "$ended" "$2" "$signal" "$nodes" "$message"
    printf '%s\n' "$line" >>"$HPCRUN_RUN_DIR/system_logs/attempts.jsonl"
    printf '%s\n' "$line" >"$temporary" && mv -f -- "$temporary" "$HPCRUN_RUN_DIR/status.json"
}
hpcrun_say() {
    printf '%s hpcrun: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"
}
hpcrun_fail() { # EXIT_CODE STAGE MESSAGE
    hpcrun_say "$3"
    hpcrun_status failed "$1" "$2" "$3"
    exit "$1"
}
hpcrun_fail_environment() {
    hpcrun_fail 103 environment "$*"
}

# --- one process of the run ---------------------------------------------------------------------
hpcrun_rank() {
    local log=std_log.txt
    cd -- "$HPCRUN_RUN_DIR/code" || exit 101
    exec >>"$HPCRUN_RUN_DIR/user_logs/$log" 2>&1 </dev/null
    exec '/opt/it'"'"'s $(here)/python' './- $(id) `train`'"'"'s "x".py' '' -rf 'it'"'"'s "quoted" $HOME ${HOME} $(touch canary) `touch canary`' 'two
lines
#SBATCH --partition=other' 'tab	and \backslash\ and trailing \' '; touch canary; #' '*' '~root' 'A=$(touch canary)' 'päth — 雪' '!history %s {{ 7 * 7 }} {% raw %}' 0.1 false
}
if [ "${1-}" = rank ]; then
    hpcrun_rank
    exit
fi

# --- the run itself -----------------------------------------------------------------------------
cd -- "$HPCRUN_RUN_DIR/code" || { echo "hpcrun: there is no folder $HPCRUN_RUN_DIR/code" >&2; exit 101; }
mkdir -p outputs logs ../user_logs ../system_logs ../metrics || exit 101

# A second job for this run finds the run taken and leaves. A requeued job is the same job.
if ! ln -s -- "$HPCRUN_JOB_ID" ../claim 2>/dev/null && [ "$(readlink ../claim)" != "$HPCRUN_JOB_ID" ]; then
    hpcrun_say "job $HPCRUN_JOB_ID leaves: the run belongs to job $(readlink ../claim)"
    exit 102
fi
hpcrun_say "attempt $HPCRUN_ATTEMPT of $HPCRUN_RUN_ID as job $HPCRUN_JOB_ID on $HPCRUN_NODES"
hpcrun_status running null prepare ""

export PYTHONUNBUFFERED=1
export PLAIN=plain
export EMPTY=''
export QUOTES=''"'"'"'"'"'"'"'"' $(touch canary) `touch canary` ${x:-y}'
export LINES='first
second '"'"'third'"'"'
'
export BACKSLASH='\'
command -v '/opt/it'"'"'s $(here)/python' >/dev/null 2>&1 ||
    hpcrun_fail_environment "there is no interpreter" '/opt/it'"'"'s $(here)/python' "on $(hostname): see environment.python"

hpcrun_launch() {
    exec bash -- "$HPCRUN_RUN_DIR/job.sh" rank
}

# The payload runs beside the script, since bash runs traps only between commands. It holds a pipe that ends
# with it; a plain wait, ended by a signal just as the payload ends, loses its exit code (seen with bash 5.2).
# TERM is not passed on: whoever ends a job sends it to every process of it, and passed on it would come twice.
# A trap that takes longer than read may wait is cut off in its middle (seen with bash 5.2): the needful first.
hpcrun_signal='' hpcrun_pid=''
hpcrun_on_signal() {
    hpcrun_signal=$1
    [ "$1" = TERM ] || kill -s "$1" "$hpcrun_pid" 2>/dev/null
    hpcrun_say "got signal $1"
}
for hpcrun_name in TERM INT HUP USR1 USR2; do
    # shellcheck disable=SC2064
    trap "hpcrun_on_signal $hpcrun_name" "$hpcrun_name"
done
hpcrun_status running null payload ""
hpcrun_code=143
hpcrun_start() {
    exec {hpcrun_log}>&1
    # shellcheck disable=SC2034
    exec {hpcrun_end}< <(hpcrun_launch {hpcrun_held}>&1 >&"$hpcrun_log" </dev/null)
    hpcrun_pid=$!
    # A signal that came before it was there did not reach it.
    [ -z "$hpcrun_signal" ] || kill -s "$hpcrun_signal" "$hpcrun_pid" 2>/dev/null
    while kill -0 "$hpcrun_pid" 2>/dev/null; do
        # Asked again now and then: what the payload leaves running may hold the pipe as well.
        read -r -t 1 -u "$hpcrun_end" || [ "$?" -gt 128 ] || break
    done
    wait "$hpcrun_pid"
    hpcrun_code=$?
}
if [ "$hpcrun_signal" != TERM ]; then
    hpcrun_start
fi
if [ "$hpcrun_code" -eq 0 ]; then
    hpcrun_status completed 0 payload ""
else
    hpcrun_status failed "$hpcrun_code" payload "${hpcrun_message-}"
fi
hpcrun_say "the payload ended with exit code $hpcrun_code"
exit "$hpcrun_code"
