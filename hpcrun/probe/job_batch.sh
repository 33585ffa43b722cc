# The batch script of the job that tries a site, behind its directives and: mpi, world, suffix, program, rank.
folder=$1 word=$2
# Exit code 41: what was written on the login node is not here.
[ "$(cat "$folder/word" 2>/dev/null)" = "$word" ] || exit 41
port=$((12000 + SLURM_JOB_ID % 16000))
# shellcheck disable=SC2046,SC2154,SC2086 # names of nodes are words; the variables stand before
timeout 120 srun $mpi sh -c "$rank" rank "$folder" "$word" "$suffix" "$port" \
    $(scontrol show hostnames "$SLURM_JOB_NODELIST") >"$folder/ranks" 2>&1
printf 'hpcrun: srun %s\n' "$?" >>"$folder/ranks"
# The system's Python, and not one that somebody has activated: it has the system's MPI, if any.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
if "$python" -c 'import mpi4py' 2>/dev/null; then
    # shellcheck disable=SC2154
    world "$python" -c "$program" >"$folder/world" 2>&1
fi
: >"$folder/done"
