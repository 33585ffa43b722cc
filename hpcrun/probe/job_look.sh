#   $1  the job's id   $2  its folder   $3  how many seconds to wait at most
# Says whether the job is done, and how it stands; soon if it is done.
waited=0
while [ ! -e "$2/done" ] && [ "$waited" -lt "$3" ]; do
    sleep 1
    waited=$((waited + 1))
    ls -a "$2" >/dev/null 2>&1 # network file systems look again when they are asked for the list
    case $(squeue --noheader --states=all --jobs="$1" --format=%T 2>/dev/null) in
    PENDING | CONFIGURING | RUNNING | COMPLETING) ;;
    *) break ;;
    esac
done
if [ -e "$2/done" ]; then echo done=yes; fi
printf 'state=%s\n' "$(squeue --noheader --states=all --jobs="$1" '--format=%T|%r' 2>/dev/null | head -n 1)"
printf 'exit=%s\n' "$(scontrol show job "$1" 2>/dev/null | sed -n 's/.*ExitCode=\([0-9]*:[0-9]*\).*/\1/p' | head -n 1)"
printf 'date=%s\n' "$(date +%s)"
for file in ranks world; do
    if [ -e "$2/done" ] && [ -r "$2/$file" ]; then
        printf '= %s\n' "$file"
        head -c 65536 "$2/$file" | sed 's/^/ /'
        printf '\n. 0\n'
    fi
done
