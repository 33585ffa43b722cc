#!/bin/bash
# fit.py
# Rendered by hpcrun. Called as "job.sh" by the scheduler, and as "job.sh rank" for each process.
# shellcheck disable=SC1003,SC2016,SC2329
set -u -o pipefail
umask 077

export HPCRUN_RUN_ID=golden_20260131-120000_abcdefgh
export HPCRUN_EXPERIMENT=golden
export HPCRUN_TARGET=site
export HPCRUN_RUN_DIR=/scratch/alice/hpcrun/runs/golden_20260131-120000_abcdefgh
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
    exec /opt/python/bin/python ./fit.py
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
export HPCRUN_PREEMPT_SIGNAL=USR2
# hpcrun.Run and hpcrun.tracking, for environments that have no hpcrun.
export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$HPCRUN_RUN_DIR/lib"

hpcrun_launch() {
    exec bash -- "$HPCRUN_RUN_DIR/job.sh" rank
}

# --- how long it may run, and what becomes of it then ---------------------------------------------
# Why the run is being ended, where that is known: timeout, preempted, or exceeded: the run's own limit, over all
# its attempts. Told: when the payload was, in seconds since the script began.
hpcrun_why='' hpcrun_over='' hpcrun_again='' hpcrun_end_at=1000000000
hpcrun_on=timeout hpcrun_told='' hpcrun_heard=''
# Whoever watches over this run is asked, if it is there: a script that was started by hand has none.
hpcrun_queue_again() {
    [ "$HPCRUN_JOB_ID" = "$PPID" ] && kill -s USR1 "$PPID"
}
hpcrun_cause() {
    hpcrun_why=''
}
hpcrun_noted() { # SIGNAL: the watcher's word on what it sent TERM for comes after the end
    if [ "$1" = TERM ] && [ -z "$hpcrun_over$hpcrun_again" ]; then
        hpcrun_why=''
    fi
}
# What is written down before the scheduler is asked, since that ends the script: a look at the run that falls
# between the two must not find an end.
hpcrun_requeue() { # EXIT_CODE: false where this is an end after which the run is not queued again
    case " $hpcrun_on " in
        *" $hpcrun_why "*) [ "$HPCRUN_ATTEMPT" -le 3 ] || return 1 ;;
        *) return 1 ;;
    esac
    hpcrun_again=1
    hpcrun_say "$hpcrun_why: the run is queued again, $HPCRUN_ATTEMPT of at most 3"
    hpcrun_status requeued "$1" payload "$hpcrun_why: queued again"
    hpcrun_queue_again && return
    hpcrun_say "it could not be queued again"
    hpcrun_again=''
    return 1
}
hpcrun_judge() { # what the signals meant that came since it was asked last
    local name
    for name in $hpcrun_heard; do
        hpcrun_heard=${hpcrun_heard# "$name"}
        hpcrun_noted "$name"
    done
}
hpcrun_mind() { # called about once a second, while the payload runs
    hpcrun_judge
    [ -z "$hpcrun_again$hpcrun_over" ] || return 0
    if [ -n "$hpcrun_told" ]; then
        if [ "$hpcrun_why" = timeout ] && [ "$SECONDS" -ge "$((hpcrun_told + 150))" ]; then
            hpcrun_told=$SECONDS # it was told, and goes on: it has what it has saved
            hpcrun_requeue null
        fi
        return
    fi
    if [ "$((hpcrun_end_at - SECONDS))" -le 180 ]; then
        hpcrun_why=exceeded
    elif [ "$SECONDS" -ge 3420 ]; then
        hpcrun_why=timeout
    else
        return
    fi
    hpcrun_told=$SECONDS hpcrun_signal=USR2
    hpcrun_say "the time is nearly over: the payload gets USR2"
    kill -s USR2 "$hpcrun_pid" 2>/dev/null
}
# An end that is not the payload's own has a name, or is none.
hpcrun_conclude() {
    hpcrun_judge
    if [ -z "$hpcrun_why$hpcrun_again" ] && [ "$hpcrun_signal" != TERM ]; then
        hpcrun_cause # the payload alone may have been told
        [ -z "$hpcrun_why" ] || hpcrun_signal=${hpcrun_signal:-TERM}
    fi
    if [ -n "$hpcrun_again" ] || hpcrun_requeue "$hpcrun_code"; then
        exit "$hpcrun_code"
    fi
    # The scheduler, whose limit may be the same, may have been quicker.
    if [ "$hpcrun_signal" = TERM ] && [ "$((hpcrun_end_at - SECONDS))" -le 3 ]; then
        hpcrun_why=exceeded
    fi
    case $hpcrun_why in
        timeout) hpcrun_message="the time limit was reached" ;;
        preempted) hpcrun_message="another job took its nodes" ;;
        exceeded) hpcrun_message="the run may run for 0 seconds in all" ;;
        *) return ;;
    esac
    [ "$hpcrun_code" -ne 0 ] || hpcrun_code=143
    hpcrun_status "$hpcrun_why" "$hpcrun_code" payload "$hpcrun_message"
    hpcrun_say "$hpcrun_message; the payload ended with exit code $hpcrun_code"
    exit "$hpcrun_code"
}
# The payload runs beside the script, since bash runs traps only between commands. It holds a pipe that ends
# with it; a plain wait, ended by a signal just as the payload ends, loses its exit code (seen with bash 5.2).
# TERM is not passed on: whoever ends a job sends it to every process of it, and passed on it would come twice.
# A trap that takes longer than read may wait is cut off in its middle (seen with bash 5.2): the needful first.
hpcrun_signal='' hpcrun_pid=''
hpcrun_on_signal() {
    hpcrun_signal=$1
    [ "$1" = TERM ] || kill -s "$1" "$hpcrun_pid" 2>/dev/null
    hpcrun_heard+=" $1"
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
        hpcrun_mind
        # Asked again now and then: what the payload leaves running may hold the pipe as well.
        read -r -t 1 -u "$hpcrun_end" || [ "$?" -gt 128 ] || break
    done
    wait "$hpcrun_pid"
    hpcrun_code=$?
}
if [ "$hpcrun_signal" != TERM ]; then
    hpcrun_start
fi
hpcrun_conclude
if [ "$hpcrun_code" -eq 0 ]; then
    hpcrun_status completed 0 payload ""
else
    hpcrun_status failed "$hpcrun_code" payload "${hpcrun_message-}"
fi
hpcrun_say "the payload ended with exit code $hpcrun_code"
exit "$hpcrun_code"
