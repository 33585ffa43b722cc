#!/bin/bash
#SBATCH --job-name=golden_20260131-120000_abcdefgh
#SBATCH --chdir=/scratch/alice/hpcrun/runs/golden_20260131-120000_abcdefgh
#SBATCH --output=/scratch/alice/hpcrun/runs/golden_20260131-120000_abcdefgh/system_logs/job.txt
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
# a command
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
HPCRUN_JOB_ID=${SLURM_JOB_ID:?this script runs under Slurm}
export HPCRUN_JOB_ID=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID-$HPCRUN_JOB_ID}
export HPCRUN_ATTEMPT=$((${SLURM_RESTART_COUNT:-0} + 1))
export HPCRUN_NODES=${SLURM_JOB_NODELIST:-$(hostname)}
export SLURM_EXPORT_ENV=ALL

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
hpcrun_load_modules() {
    local init
    set +u
    if ! type module >/dev/null 2>&1; then
        for init in "${MODULESHOME-}/init/bash" "${LMOD_PKG-}/init/bash" /etc/profile.d/lmod.sh \
            /etc/profile.d/z00_lmod.sh /etc/profile.d/modules.sh /usr/share/modules/init/bash; do
            # shellcheck disable=SC1090
            [ -r "$init" ] && . "$init" && break
        done
    fi
    type module >/dev/null 2>&1 || hpcrun_fail_environment "there is no module command on $(hostname)"
    for init in "$@"; do
        module load "$init" || hpcrun_fail_environment "module load $init failed on $(hostname)"
    done
    set -u
}
# An environment that hpcrun made: its folder is handed on as HPCRUN_ENVIRONMENT.
hpcrun_use_environment() { # FOLDER TITLE, the folder without the machine that it is for
    local found='' wanted
    wanted=$1-$(uname -m)
    for found in 1 2 3; do # a network file system may show late what was made just now
        [ -e "$wanted/environment.json" ] && break
        ls "${1%/*}" >/dev/null 2>&1
        [ "$found" = 3 ] || sleep 1
    done
    if ! [ -e "$wanted/environment.json" ]; then
        for found in "$1"-*; do
            case ${found#"$1"-} in *.* | '*') continue ;; esac
            hpcrun_fail_environment "the $2 was made for ${found#"$1"-}, and $(hostname) is $(uname -m): make it there with hpcrun env build"
        done
        hpcrun_fail_environment "the $2 is not at $wanted, as $(hostname) sees it: make it with hpcrun env build"
    fi
    HPCRUN_ENVIRONMENT=$(cd -- "$wanted" && pwd -P)
    export HPCRUN_ENVIRONMENT
    : >"$HPCRUN_ENVIRONMENT/used" # its time is that of the last use
    cp -f -- "$HPCRUN_ENVIRONMENT/log.txt" ../system_logs/environment.txt
    cp -f -- "$HPCRUN_ENVIRONMENT/packages.txt" ../system_logs/packages.txt
    [ ! -e "$HPCRUN_ENVIRONMENT/lock.txt" ] || cp -f -- "$HPCRUN_ENVIRONMENT/lock.txt" ../system_logs/lock.txt
} 2>/dev/null
hpcrun_activate_venv() {
    local python
    export VIRTUAL_ENV="$HPCRUN_ENVIRONMENT/prefix"
    export PATH="$VIRTUAL_ENV/bin:$PATH"
    unset PYTHONHOME
    if ! python=$("$VIRTUAL_ENV/bin/python" -c 'import sys; print(sys.prefix)' 2>&1); then
        hpcrun_fail_environment "the interpreter of the venv $VIRTUAL_ENV does not run on $(hostname): ${python##*$'\n'}"
    fi
    if ! [ "$python" -ef "$VIRTUAL_ENV" ]; then
        hpcrun_fail_environment "$VIRTUAL_ENV/bin/python is an interpreter of $python, and not of this venv, on $(hostname)"
    fi
}

# --- one process of the run ---------------------------------------------------------------------
hpcrun_rank() {
    local log=std_log.txt
    cd -- "$HPCRUN_RUN_DIR/code" || exit 101
    exec >>"$HPCRUN_RUN_DIR/user_logs/$log" 2>&1 </dev/null
    exec python -c 'import numpy'
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
hpcrun_load_modules python/3.12
hpcrun_use_environment /scratch/alice/hpcrun/environments/venv-8151840ce53196f7 'venv of requirements.txt'
hpcrun_activate_venv

hpcrun_launch() {
    exec srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=1 --mpi=none --kill-on-bad-exit=1 bash -- "$HPCRUN_RUN_DIR/job.sh" rank
}
hpcrun_no_step='^srun: error: Unable to (confirm allocation for|create step for) job .*: (Socket timed out|Unable to contact'
hpcrun_no_step+='|Zero Bytes|Communication connection failure|Transport endpoint|Connection (refused|timed out|reset)|.*standby)'

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
    # srun gives up after some seconds where slurmctld does not answer. It says so, and has started nothing then.
    hpcrun_began=$SECONDS hpcrun_pause=2
    exec {hpcrun_idle}<> <(:)
    while :; do
        hpcrun_said=$(cat ../system_logs/job.txt 2>/dev/null | wc -c)
        hpcrun_start
        [ "$hpcrun_code" -eq 1 ] && [ "$hpcrun_signal" != TERM ] || break
        tail -c "+$((hpcrun_said + 1))" ../system_logs/job.txt 2>/dev/null | grep -qE "$hpcrun_no_step" || break
        [ "$((SECONDS - hpcrun_began))" -lt 300 ] ||
            hpcrun_fail 104 launch "Slurm's controller has not answered for five minutes, without which srun starts nothing"
        hpcrun_say "Slurm's controller does not answer, and srun has started nothing: again in $hpcrun_pause seconds"
        for ((hpcrun_left = hpcrun_pause; hpcrun_left > 0; hpcrun_left--)); do
            read -r -t 1 -u "$hpcrun_idle" # a sleep that a signal ends: nobody ever writes there
            [ "$hpcrun_signal" != TERM ] || { hpcrun_code=143; break 2; }
        done
        hpcrun_pause=$((hpcrun_pause < 20 ? hpcrun_pause * 2 : 30))
    done
fi
if [ "$hpcrun_code" -eq 0 ]; then
    hpcrun_status completed 0 payload ""
else
    hpcrun_status failed "$hpcrun_code" payload "${hpcrun_message-}"
fi
hpcrun_say "the payload ended with exit code $hpcrun_code"
exit "$hpcrun_code"
