#!/bin/bash
#SBATCH --job-name=secrets_20260131-120000_abcdefgh
#SBATCH --chdir=/scratch/alice/hpcrun/runs/secrets_20260131-120000_abcdefgh
#SBATCH --output=/scratch/alice/hpcrun/runs/secrets_20260131-120000_abcdefgh/system_logs/job.txt
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
# fit.py
# Rendered by hpcrun. Called as "job.sh" by the scheduler, and as "job.sh rank" for each process.
# shellcheck disable=SC1003,SC2016,SC2329
set -u -o pipefail
umask 077

export HPCRUN_RUN_ID=secrets_20260131-120000_abcdefgh
export HPCRUN_EXPERIMENT=secrets
export HPCRUN_TARGET=site
export HPCRUN_RUN_DIR=/scratch/alice/hpcrun/runs/secrets_20260131-120000_abcdefgh
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
# A container with a clean environment still needs what hpcrun, Slurm, MPI and the GPUs have to say.
hpcrun_hand_on() { # PREFIX
    local name
    for name in $(compgen -e); do
        case $name in
            HPCRUN_* | SLURM_* | PMI* | PALS_* | OMPI_* | OPAL_* | PRTE_* | MPICH_* | MV2_* | I_MPI_* | HYDRA_* | \
                UCX_* | FI_* | PSM2_* | PSM3_* | NCCL_* | RCCL_* | GLOO_* | CUDA_* | NVIDIA_* | ROCR_* | HIP_* | \
                HSA_* | GPU_DEVICE_ORDINAL | ZE_AFFINITY_MASK | OMP_* | KMP_* | TORCH* | TF_CONFIG | TMPDIR | \
                RANK | WORLD_SIZE | LOCAL_RANK | LOCAL_WORLD_SIZE | NODE_RANK | MASTER_ADDR | MASTER_PORT | \
                VIRTUAL_ENV | PYTHONUNBUFFERED | PYTHONNOUSERSITE)
                export "$1$name=${!name}" ;;
        esac
    done
    export "$1PYTHONUNBUFFERED=$PYTHONUNBUFFERED"
    export "$1WANDB_API_KEY=$WANDB_API_KEY"
    export "$1HF_TOKEN=$HF_TOKEN"
}
# A container sees of the node what is named here. The folders are chosen by the scheduler, for each process: where
# the ranks of a node meet, and where temporary files go. What the user has installed below the home for another
# Python is not the image's.
hpcrun_contain() { # PROGRAM WORD...
    local folder
    local -a words=("$1" --quiet exec)
    shift
    for folder in "${PMIX_SERVER_TMPDIR-}" "${TMPDIR-}"; do
        case $folder in
            /tmp | /tmp/ | /var/tmp | *[,:]*) ;;
            /*) [ ! -d "$folder" ] || words+=(--bind "$folder") ;;
        esac
    done
    export PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}
    # Or Apptainer would have a shell expand the values, $(…) included.
    export APPTAINER_NO_EVAL=1 SINGULARITY_NO_EVAL=1
    case ${words[0]##*/} in
        singularity*) hpcrun_hand_on SINGULARITYENV_ ;;
        *) hpcrun_hand_on APPTAINERENV_ ;;
    esac
    exec "${words[@]}" "$@"
}

# --- one process of the run ---------------------------------------------------------------------
hpcrun_rank() {
    local log=std_log.txt
    cd -- "$HPCRUN_RUN_DIR/code" || exit 101
    exec >>"$HPCRUN_RUN_DIR/user_logs/$log" 2>&1 </dev/null
    hpcrun_contain apptainer --bind "$HPCRUN_RUN_DIR" --pwd "$PWD" --cleanenv /images/torch.sif python3 ./fit.py
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
# Their values stand nowhere but in this file.
[ -r "$HPCRUN_RUN_DIR/secrets.sh" ] ||
    hpcrun_fail_environment "the run's secrets are gone, as they are when a run has ended: use hpcrun rerun"
# shellcheck source=/dev/null
. "$HPCRUN_RUN_DIR/secrets.sh"
command -v apptainer >/dev/null 2>&1 ||
    hpcrun_fail_environment "there is no program" apptainer "on $(hostname): set apptainer.executable of the site"
[ -e /images/torch.sif ] || hpcrun_fail_environment "there is no image" /images/torch.sif "on $(hostname)"

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
# A run that is being requeued needs them again: Slurm then calls the job completing, before it signals any of
# its processes. What stays here is taken away by hpcrun when it sees the run's end.
if [ -z "${hpcrun_signal-}" ]; then
    if [ -z "${SLURM_JOB_ID-}" ] ||
        [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T 2>/dev/null)" = RUNNING ]; then
        rm -f -- "$HPCRUN_RUN_DIR/secrets.sh"
    fi
fi
if [ "$hpcrun_code" -eq 0 ]; then
    hpcrun_status completed 0 payload ""
else
    hpcrun_status failed "$hpcrun_code" payload "${hpcrun_message-}"
fi
hpcrun_say "the payload ended with exit code $hpcrun_code"
exit "$hpcrun_code"
