# The folders of runs on standard input: what the jobs of these say, a line each with a letter before it.
# R: the run; G: it is gone; S: its status.json; A: what that has held; C: whose it is; J: the end of its job's
# log, once it has ended. Nothing is started for a run that has nothing to say; links and pipes are not opened.
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
while IFS= read -r run; do
    printf 'R %s\n' "${run##*/}"
    [ -d "$run" ] || { echo "G"; continue; }
    [ -L "$run/claim" ] && printf 'C %s\n' "$(readlink "$run/claim" | head -n 1)"
    plain "$run/status.json" || continue
    line=
    IFS= read -r line <"$run/status.json"
    printf 'S %s\n' "$line"
    if plain "$run/system_logs/attempts.jsonl"; then
        tail -n 40 "$run/system_logs/attempts.jsonl" | sed 's/^/A /'
    fi
    case $line in
        *'"ended":"'*)
            plain "$run/system_logs/job.txt" && tail -c 16384 "$run/system_logs/job.txt" | sed 's/^/J /'
            echo
            ;;
    esac
done
