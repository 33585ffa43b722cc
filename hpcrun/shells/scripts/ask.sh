# SECONDS COMMAND...: one of Slurm's commands; --user= and user= are filled in with who one is there.
seconds=$1
shift
for word; do
    shift
    case $word in --user= | user=) word=$word$(id -un) ;; esac
    set -- "$@" "$word"
done
TZ=UTC
export TZ
limited "$seconds" "$@" </dev/null
