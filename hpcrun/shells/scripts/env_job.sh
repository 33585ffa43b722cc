# ROOT NAME BYTES SECONDS ASKS: have an environment made by a job of its own, unless it is there, or such a job is in
# the queue; see env_stand. The job script, BYTES long, comes on standard input. Says "job ID" for a job. With ASKS
# the script is first asked whether there is anything here to make it with; "caller": no, and no job is submitted.
# 95: it cannot be done; else sbatch's own code.
root=$1 name=$2 bytes=$3 seconds=$4 asks=$5
umask 077
mkdir -p -- "$root" || exit 95
script=$root/.$name.$$.sh asking=$root/$name.asking
trap 'rm -f -- "$script"' EXIT
cat >"$script" || exit 95
[ "$(wc -c <"$script")" -eq "$bytes" ] || exit 95
# One asks at a time. One that was killed keeps nobody for long: two jobs would make it once, too.
until ln -s "$$" "$asking" 2>/dev/null || [ "$seconds" -le 0 ]; do
    sleep 1
    seconds=$((seconds - 1))
done
look=$root/.$name.$$.ask
trap 'rm -rf -- "$script" "$asking" "$look"' EXIT
for each in "$root/$name"-*/environment.json; do
    case ${each%/environment.json} in
    "$root/$name"-*.*) ;; # where one was made, by its own name
    *)
        if [ -e "$each" ]; then
            printf 'ready %s\n' "$name"
            exit
        fi
        ;;
    esac
done
job=$(cat -- "$root/$name.job" 2>/dev/null)
if [ -n "$job" ] && [ -n "$(limited 20 squeue --noheader --jobs="$job" --states=PD,R,CF,S,RQ --format=%i 2>/dev/null)" ]; then
    printf 'job %s\n' "$job"
    exit
fi
if [ -n "$asks" ] && mkdir -- "$look"; then
    limited 30 bash "$script" --ask "$look" </dev/null >/dev/null 2>&1
    if [ "$?" -eq 3 ]; then
        printf 'caller\n'
        exit
    fi
fi
job=$(cd -- "$root" && limited 60 sbatch --parsable --job-name="hpcrun-$name" --chdir="$root" \
    --output="$root/$name.job.txt" "$script") || exit
job=$(printf '%s\n' "$job" | sed -n 's/^\([0-9][0-9]*\)\(;.*\)*$/\1/p' | head -n 1)
[ -n "$job" ] || exit 95
printf '%s\n' "$job" >"$root/$name.job"
printf 'job %s\n' "$job"
