# SECONDS COMMAND...: one of Slurm's commands; --user= and user= are filled in with who one is there.
seconds=$1
shift
for word; do
    shift
    case $word in --user= | user=) word=$word$(id -un) ;; esac
    set -- "$@" "$word"
done
# Times in UTC, and of a job array all tasks, however many there are.
TZ=UTC SLURM_BITSTR_LEN=0
export TZ SLURM_BITSTR_LEN
limited "$seconds" "$@" </dev/null
