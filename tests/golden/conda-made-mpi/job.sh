#!/bin/bash
#SBATCH --job-name=golden_20260131-120000_abcdefgh
#SBATCH --chdir=/scratch/alice/hpcrun/runs/golden_20260131-120000_abcdefgh
#SBATCH --output=/scratch/alice/hpcrun/runs/golden_20260131-120000_abcdefgh/system_logs/job.txt
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=3
#SBATCH --cpus-per-task=1
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
# A port of this node for the INDEXth purpose of this run. It comes from the job's number, so that two jobs seldom
# want the same, and lies below the range that the kernel hands out. It is one that nobody has, on any address,
# and that no other job of this user has taken in the last hour and may be just about to use.
hpcrun_port() { # INDEX
    local folder=/tmp/.hpcrun-ports-$UID number=${HPCRUN_JOB_ID//[!0-9]/} taken tries hex
    local mine="$HPCRUN_RUN_DIR $1" port
    [ -d "$folder" ] || mkdir -m 700 -- "$folder" 2>/dev/null
    { [ -O "$folder" ] && ! [ -L "$folder" ]; } || folder=''
    [ -z "$folder" ] || find "$folder" -type f -mmin +60 -delete 2>/dev/null
    taken=$(sed -n 's/^ *[0-9]*: [0-9A-F]*:\([0-9A-F]\{4\}\) .*/\1/p' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    port=$((12000 + (10#0$number + 4001 * $1) % 16000))
    for ((tries = 0; tries < 16000; tries++)); do
        printf -v hex %04X "$port"
        if [[ $taken != *"$hex"* ]] && { [ -z "$folder" ] ||
            (set -C && printf '%s\n' "$mine" >"$folder/$port") 2>/dev/null ||
            [ "$(cat -- "$folder/$port" 2>/dev/null)" = "$mine" ]; }; then
            printf '%s\n' "$port"
            return 0
        fi
        port=$((12000 + (port - 12000 + 1) % 16000))
    done
    return 1
}
# What `conda env config vars` and packages want to be set, as conda activate does it.
hpcrun_conda_variables() { # PREFIX
    local python line
    [ -e "$1/conda-meta/state" ] || compgen -G "$1/etc/conda/env_vars.d/*.json" >/dev/null || return 0
    for python in "$1/bin/python3" "$1/bin/python" python3; do
        ! command -v "$python" >/dev/null 2>&1 || break
    done
    while IFS= read -r -d '' line; do
        # shellcheck disable=SC2163
        export "$line"
    done < <("$python" -I -c '
import glob, json, os, sys
found = {}
for path in sorted(glob.glob(glob.escape(sys.argv[1]) + "/etc/conda/env_vars.d/*.json")):
    found.update(json.load(open(path, encoding="utf-8")))
state = sys.argv[1] + "/conda-meta/state"
if os.path.exists(state):
    found.update(json.load(open(state, encoding="utf-8")).get("env_vars", {}))
for name, value in found.items():
    if value != "***unset***":
        sys.stdout.buffer.write(("%s=%s" % (name, value)).encode("utf-8", "surrogateescape") + b"\0")
sys.stdout.buffer.write(b"HPCRUN_CONDA_VARIABLES=read\0")
' "$1")
    [ -n "${HPCRUN_CONDA_VARIABLES-}" ] ||
        hpcrun_fail_environment "the variables of the environment $1 cannot be read on $(hostname)"
    unset HPCRUN_CONDA_VARIABLES
}
hpcrun_activate_conda() { # ROOT NAME_OR_PREFIX name|prefix|made
    local profile=$1/etc/profile.d/conda.sh prefix=$2
    if [ "$3" = name ]; then
        prefix=$1/envs/$2
        [ "$2" = base ] && prefix=$1
    fi
    set +u
    if [ "$3" != made ] && [ -r "$profile" ]; then
        # shellcheck disable=SC1090
        if ! . "$profile" || ! conda activate "$2"; then
            hpcrun_fail_environment "conda activate $2 failed on $(hostname)"
        fi
        [ "$3" = prefix ] || prefix=${CONDA_PREFIX-}
    else
        # Without conda itself an environment still is a prefix with scripts of its own.
        if ! [ -d "$prefix/conda-meta" ]; then
            [ "$3" != made ] || hpcrun_fail_environment "there is no conda environment at $prefix on $(hostname)"
            hpcrun_fail_environment "no conda.sh under $1/etc/profile.d and no environment at $prefix on $(hostname)"
        fi
        if [ "$3" = made ]; then
            export PYTHONNOUSERSITE=1 # what lies in the home is no part of what was made
            unset PYTHONHOME
            if [ -e "$prefix/bin/python" ] && ! "$prefix/bin/python" -I -c 'import sys'; then
                hpcrun_fail_environment "the python of the environment $prefix does not run on $(hostname)"
            fi
        fi
        export CONDA_PREFIX=$prefix CONDA_DEFAULT_ENV=$2 PATH="$prefix/bin:$PATH"
        hpcrun_conda_variables "$prefix"
        for profile in "$prefix"/etc/conda/activate.d/*.sh; do
            # shellcheck disable=SC1090
            [ -r "$profile" ] && . "$profile"
        done
    fi
    set -u
    if ! [ "${CONDA_PREFIX-}" -ef "$prefix" ]; then
        hpcrun_fail_environment "conda activate $2 left CONDA_PREFIX at '${CONDA_PREFIX-}' on $(hostname)"
    fi
    case "$(command -v python)" in
        "" | "$CONDA_PREFIX"/*) ;;
        *) hpcrun_fail_environment "after conda activate $2, python is $(command -v python)" ;;
    esac
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

# Each process has a witness, which says when it is gone: the payload takes the process over, so that signals reach
# it as they would without hpcrun, and nobody is left to say it. A pipe tells, whose other end the payload holds.
# What srun says of ends comes later, and of one node at a time: not in the order in which they came.
hpcrun_witness() {
    local pipe gone tries line
    exec {pipe}<> <(:) || return 0
    wait "$!" # the payload is to find no children that are not its own
    # shellcheck disable=SC2094
    exec {hpcrun_alive}>"/proc/self/fd/$pipe" {gone}<"/proc/self/fd/$pipe" {pipe}>&-
    (
        (
            trap '' TERM INT HUP USR1 USR2
            exec {hpcrun_alive}>&- >/dev/null </dev/null
            read -r -u "$gone"
            for ((tries = 0; tries < 50; tries++)); do
                line=''
                { read -r line <"/proc/$$/stat"; } 2>/dev/null
                case ${line##*) } in
                    "" | [ZX]*)
                        # shellcheck disable=SC2153
                        printf 'hpcrun: rank %s on %s is gone\n' "$RANK" "${SLURMD_NODENAME:-$HOSTNAME}" >&2
                        break ;;
                esac
                sleep 0.02 # it lives, having closed the pipe
            done
        ) &
    )
    exec {gone}<&-
}

# What a process said last: words of a failure of its own (own), of one that another caused (other), or none.
hpcrun_last_words() { # RANK
    local text line log
    printf -v log '%s/user_logs/std_log_process_%03d.txt' "$HPCRUN_RUN_DIR" "$1"
    text=$(tail -c 16384 -- "$log" 2>/dev/null | tr -d '\0')
    line=$(grep -E 'Error|error: |Exception|[Ff]atal|Segmentation|core dumped|not found' <<<"$text" | tail -n 1)
    hpcrun_words=none
    [ -z "$line" ] || hpcrun_words=own
    ! grep -qiE "$hpcrun_others" <<<"${line:-$text}" || hpcrun_words=other
}
hpcrun_others='connection (was )?(reset|closed|refused|aborted|lost)|lost connection|broken ?pipe|EOFError|socket (is )?closed'
hpcrun_others+='|closed by (the )?(peer|remote)|ncclRemoteError|remote (process|peer)|communicator (was|is) aborted'
hpcrun_others+='|collective operation timeout|DistNetworkError|MPI_ERR_PROC_FAILED|SIGTERM|failed to recv|store.*timed? ?out'

# Sets hpcrun_message, and hpcrun_code to the code of the rank that failed first. Others are ended because of it, or
# fail because of it, and may be gone sooner: Python, say, cleans up before it ends. Looked for are, in turn:
# of those that ended by themselves, and do not speak of others' failure, the one that was gone first; of those
# that were ended, one that had failed by its own words; and then just the one that was gone first.
hpcrun_first_failure() {
    local line all rank part first='' lost='' early='' spoke='' stopped='' count=0
    local -A where=() how=() alone=()
    local -a order=()
    all=$(tail -c "+$((hpcrun_said + 1))" "$HPCRUN_RUN_DIR/system_logs/job.txt" 2>/dev/null | tr -d '\0')
    # An elastic torchrun goes on without a node: its own words go first.
    [ -z "${hpcrun_elastic-}" ] || [ "${hpcrun_signal-}" = TERM ] || ! hpcrun_said_by_starter "$all" || return
    if [[ $all =~ Node\ failure\ on\ ([A-Za-z0-9._-]+) ]]; then
        hpcrun_message="node ${BASH_REMATCH[1]} failed"
        return
    fi
    [ "${hpcrun_signal-}" != TERM ] || return
    hpcrun_said_by_starter "$all" && return
    while IFS= read -r line; do
        if [[ $line =~ ^hpcrun:\ rank\ ([0-9]+)\ on\ (.+)\ is\ gone$ ]]; then
            rank=${BASH_REMATCH[1]}
            [ -n "${where[$rank]-}" ] || { order+=("$rank"); where[$rank]=${BASH_REMATCH[2]}; }
            [ -n "$stopped" ] || alone[$rank]=yes
        elif [[ $line =~ ^(srun|hpcrun):\ error:\ ([^:\ ]+):\ tasks?\ ([0-9,-]+):\ (.+)$ ]]; then
            for part in ${BASH_REMATCH[3]//,/ }; do
                for ((rank = ${part%-*}; rank <= ${part#*-}; rank++)); do
                    [ -n "${where[$rank]-}" ] || { order+=("$rank"); where[$rank]=${BASH_REMATCH[2]}; }
                    how[$rank]=${BASH_REMATCH[4]}
                    case ${BASH_REMATCH[4]} in
                        Exited*) alone[$rank]=yes ;;
                        *) [ -n "$stopped" ] || alone[$rank]=yes ;;
                    esac
                done
            done
        elif [[ $line == *" CANCELLED AT "* || $line =~ ^(srun|hpcrun):\ [Tt]erminating || $line == *"step aborted"* ]]; then
            stopped=yes
        fi
    done < <(grep -E '^(srun|hpcrun|slurmstepd)[^ ]*: ' <<<"$all" | head -n 50000)
    for rank in ${order[@]+"${order[@]}"}; do
        if [ -z "${how[$rank]-}" ]; then
            # It ended with exit code 0, which matters only where all the others failed for want of it.
            # Words from two nodes may overtake each other, so its place among the others proves nothing.
            : "${early:=$rank}"
            continue
        fi
        [ "$((count += 1))" -le 500 ] || break
        hpcrun_last_words "$rank"
        # What Open MPI ends with that has lost its PMIx, which a step that is ended takes away.
        if [[ $hpcrun_words == none && -n $stopped && ${how[$rank]} == *" exit code 14" ]]; then
            : "${lost:=$rank}"
            continue
        fi
        : "${first:=$rank}"
        if [ -n "${alone[$rank]-}" ] && [ "$hpcrun_words" != other ]; then
            spoke=$rank
            break
        fi
        [ "$hpcrun_words" != own ] || : "${spoke:=$rank}"
    done
    first=${first:-$lost}
    [ -n "$first" ] || return
    if [ -n "$spoke" ]; then
        early=''
        if [ -z "${alone[$spoke]-}" ]; then
            # Which code it would have had is not known: it is taken to be that of those that did end.
            [[ ${how[$first]} == Exited* ]] || how[$first]='Exited with exit code 1'
            hpcrun_code=${how[$first]##* }
            hpcrun_message="rank $spoke on ${where[$spoke]}: had failed when it was ended with the others (${how[$spoke]})"
            return
        fi
        first=$spoke
    fi
    hpcrun_message="rank $first on ${where[$first]}: ${how[$first]}"
    [ -z "$early" ] || hpcrun_message+="; rank $early on ${where[$early]} had ended before, with exit code 0"
    case ${how[$first]} in
        *"xit code "[1-9]*) hpcrun_code=${how[$first]##* } ;;
        *Aborted*) hpcrun_code=134 ;;
        *"Bus error"*) hpcrun_code=135 ;;
        *"loating point"*) hpcrun_code=136 ;;
        *Killed*) hpcrun_code=137 ;;
        *"Segmentation fault"*) hpcrun_code=139 ;;
        *Terminated*) hpcrun_code=143 ;;
    esac
}
# mpirun and torchrun tell of the first themselves.
hpcrun_said_by_starter() { # TEXT
    local rank text=${1//[[:space:]]/ }
    local torchrun='Root Cause[^[]*\[[0-9]+\]: +time +: [^ ]+ +host +: ([^ ]+) +rank +: ([0-9]+) \(local_rank: [0-9]+\) +exitcode +: (-?[0-9]+)'
    if [[ $text =~ process\ rank\ ([0-9]+)\ with\ PID\ [0-9]+\ on\ node\ ([^ ]+)\ (exited\ on\ +signal\ [0-9]+)? ]]; then
        rank=${BASH_REMATCH[1]}
        hpcrun_message="rank $rank on ${BASH_REMATCH[2]}: ${BASH_REMATCH[3]:-exited with exit code $hpcrun_code}"
        # What Open MPI ends with that has lost another process, of which mpirun itself may say nothing. Words from
        # two nodes may overtake each other: the first of the others it is.
        if [ "$hpcrun_code" -eq 14 ] && [[ $text == *'calling "abort"'* ]]; then
            while [[ $text =~ hpcrun:\ rank\ ([0-9]+)\ on\ ([^ ]+)\ is\ gone(.*) ]]; do
                text=${BASH_REMATCH[3]}
                [ "${BASH_REMATCH[1]}" != "$rank" ] || continue
                hpcrun_message="rank ${BASH_REMATCH[1]} on ${BASH_REMATCH[2]}: was gone first; $hpcrun_message"
                break
            done
        fi
    elif [[ $text =~ Process\ name:\ \[[^]]*,([0-9]+)\]\ +Exit\ code:\ +([0-9]+) ]]; then
        hpcrun_message="rank ${BASH_REMATCH[1]} on $(hpcrun_place "${BASH_REMATCH[1]}" "$1"): Exited with exit code ${BASH_REMATCH[2]}"
        hpcrun_code=${BASH_REMATCH[2]}
    elif [[ $text =~ $torchrun ]]; then
        hpcrun_code=${BASH_REMATCH[3]}
        [ "$hpcrun_code" -ge 0 ] || hpcrun_code=$((128 - hpcrun_code))
        hpcrun_message="rank ${BASH_REMATCH[2]} on ${BASH_REMATCH[1]}: Exited with exit code $hpcrun_code"
    else
        return 1
    fi
}
hpcrun_place() { # RANK TEXT
    local where
    where=$(sed -n "s/^hpcrun: rank $1 on \(.*\) is gone\$/\1/p" <<<"$2" | head -n 1)
    printf '%s' "${where:-$HPCRUN_NODES}"
}

# --- one process of the run ---------------------------------------------------------------------
hpcrun_rank() {
    local log=std_log.txt
    export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID NODE_RANK=$SLURM_NODEID
    export LOCAL_WORLD_SIZE=3
    if [ -n "${HPCRUN_WORLD-}" ]; then
        exec python -c 'from mpi4py import MPI
name = MPI.Get_library_version().split("\0")[0].split("\n")[0].split(",")[0].strip()
wants = {"Open MPI": "pmix", "CRAY": "cray_shasta", "Intel": "pmi2", "MPICH": "pmi2", "MVAPICH": "pmi2"}
wants = next((pmi for make, pmi in wants.items() if make.lower() in name.lower()), "another")
print("hpcrun: world=%d wants=%s library=%s" % (MPI.COMM_WORLD.Get_size(), wants, name), flush=True)'
    fi
    log=$(printf 'std_log_process_%03d.txt' "$RANK")
    hpcrun_witness
    cd -- "$HPCRUN_RUN_DIR/code" || exit 101
    exec >>"$HPCRUN_RUN_DIR/user_logs/$log" 2>&1 </dev/null
    exec python ${HPCRUN_MPI4PY:+-m mpi4py} ./fit.py
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
hpcrun_said=$(cat "$HPCRUN_RUN_DIR/system_logs/job.txt" 2>/dev/null | wc -c)
hpcrun_say "attempt $HPCRUN_ATTEMPT of $HPCRUN_RUN_ID as job $HPCRUN_JOB_ID on $HPCRUN_NODES"
hpcrun_status running null prepare ""

export PYTHONUNBUFFERED=1
export SLURM_PMIX_FENCE="${SLURM_PMIX_FENCE:-ring}"
hpcrun_use_environment /scratch/alice/hpcrun/environments/conda-eed6c08df721da1d 'conda environment of python=3.11, mpi4py, openmpi'
hpcrun_activate_conda "" "$HPCRUN_ENVIRONMENT/prefix" made

# The first node, on which this runs, is where all processes meet.
HPCRUN_NODE_NAMES=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tr '\n' ' ')
MASTER_ADDR=${HPCRUN_NODE_NAMES%% *}
[ -n "$MASTER_ADDR" ] || hpcrun_fail 104 launch "scontrol did not name the nodes of $SLURM_JOB_NODELIST"
MASTER_PORT=$(hpcrun_port 0) || hpcrun_fail 104 launch "there is no free port on $(hostname)"
export MASTER_ADDR MASTER_PORT
hpcrun_launch() {
    exec srun --nodes=2 --ntasks=6 --ntasks-per-node=3 --cpus-per-task=1 --mpi=pmix --kill-on-bad-exit=1 bash -- "$HPCRUN_RUN_DIR/job.sh" rank
}
hpcrun_no_step='^srun: error: Unable to (confirm allocation for|create step for) job .*: (Socket timed out|Unable to contact'
hpcrun_no_step+='|Zero Bytes|Communication connection failure|Transport endpoint|Connection (refused|timed out|reset)|.*standby)'
# With mpi4py a Python that ends by an exception would wait in MPI_Finalize for the others, and they for it, for
# ever. Started by "-m mpi4py" it calls MPI_Abort instead. Only for code that speaks of mpi4py at all.
hpcrun_find_mpi4py() {
    export HPCRUN_MPI4PY=''
    timeout 5 grep -rqsF --include='*.py' mpi4py . || return
    # shellcheck disable=SC2093
    if (exec python -c 'import mpi4py.run') >/dev/null 2>&1 </dev/null; then
        HPCRUN_MPI4PY=yes
    fi
}
hpcrun_find_mpi4py

# Two processes, in the run's own environment, say how many they are. Where each is alone, the plug-in and the MPI
# do not speak the same PMI, and so would be all processes of the run. Who says nothing, or is late, proves nothing.
hpcrun_check_mpi() {
    local said alone library wants offered why
    said=$(HPCRUN_WORLD=yes timeout -k 5 20 srun --nodes=1 --ntasks=2 --ntasks-per-node=2 --cpus-per-task=1 --mpi=pmix --kill-on-bad-exit=1 bash -- "$HPCRUN_RUN_DIR/job.sh" rank </dev/null 2>&1)
    alone=$(grep -c '^hpcrun: world=1 ' <<<"$said")
    if [[ $said == *"find the specified plugin name for mpi/"* || $said == *"nvalid MPI type"* ]]; then
        why="srun has no plug-in pmix"
        library='' wants=''
    elif [ "$alone" -eq 2 ]; then
        library=$(sed -n 's/^hpcrun: world=1 .* library=//p' <<<"$said" | head -n 1)
        wants=$(sed -n 's/^hpcrun: world=1 wants=\([^ ]*\) .*/\1/p' <<<"$said" | head -n 1)
        why="each MPI process would be alone: srun --mpi=pmix and $library, which wants $wants, do not speak the same PMI"
    else
        return 0
    fi
    offered=$(srun --mpi=list 2>&1 </dev/null |
        sed -n 's/^\(srun: \)\{0,1\}[[:space:]]*\([a-z][a-z0-9_]*\)$/\2/p' | paste -s -d ' ')
    why+=". This Slurm offers: ${offered:-nothing that it tells}"
    if [ -z "$library" ]; then
        why+=". Set scheduler.mpi in the site's file to one of these"
    elif [ "$wants" = pmix ]; then
        why+=". Their versions of $wants may not go together: take an MPI of the site's own (modules), or scheduler.mpi: mpirun"
    elif [[ " $offered " == *" $wants "* ]]; then
        why+=". Set scheduler.mpi to $wants in the site's file"
    else
        why+=", and no $wants: take an MPI that speaks one of these, or set scheduler.mpi to mpirun in the site's file"
    fi
    hpcrun_fail 104 launch "$why"
}
if [ -n "$HPCRUN_MPI4PY" ] && [ "$HPCRUN_ATTEMPT" -eq 1 ]; then
    hpcrun_check_mpi
fi

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
[ "$hpcrun_code" -eq 0 ] || hpcrun_first_failure
if [ "$hpcrun_code" -eq 0 ]; then
    hpcrun_status completed 0 payload ""
else
    hpcrun_status failed "$hpcrun_code" payload "${hpcrun_message-}"
fi
hpcrun_say "the payload ended with exit code $hpcrun_code"
exit "$hpcrun_code"
