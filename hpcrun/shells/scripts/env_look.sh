# ROOT NAME FOLDER OFFSET SECONDS: how an environment stands, which FOLDER is made for, and what its log has
# beyond OFFSET bytes; as soon as there is something new, or the time is over.
root=$1 name=$2 folder=$3 offset=$4 seconds=$5
wanted=$root/$name-$(uname -m)
log=$root/$folder/log.txt
first=$(stand "$wanted" "$folder")
now=$first
while [ "$seconds" -gt 0 ]; do
    case $now in *" wanted") break ;; "building $folder "*) ;; *) break ;; esac
    [ "$(cat -- "$log" 2>/dev/null | wc -c)" -le "$offset" ] || break
    sleep 1
    seconds=$((seconds - 1))
    now=$(stand "$wanted" "$folder")
done
printf '%s\n' "$now"
[ -z "$folder" ] || tail -c "+$((offset + 1))" -- "$log" 2>/dev/null | head -c 65536
exit 0
