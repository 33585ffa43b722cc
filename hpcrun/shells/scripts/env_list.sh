# ROOT: the environments there, those in the making and what is left of others. "N", the time there; then, for
# each, "E FOLDER STATE USED", times in seconds since 1970, "B" and its bytes where nothing else says them, and
# "J" and its environment.json.
printf 'N %s\n' "$(date +%s)"
cd -- "$1" 2>/dev/null || exit 0
for folder in *-*-*.*; do
    [ -d "$folder" ] && [ ! -L "$folder" ] || continue
    wanted=${folder%%.*}
    if [ "$(readlink -- "$wanted")" = "$folder" ] && [ -e "$folder/environment.json" ]; then
        state=ready
    elif [ -e "$folder/failed" ]; then
        state=failed
    elif [ "$(readlink -- "$wanted.lock")" = "$folder" ]; then
        state=building
    else
        state=left
    fi
    for time in "$folder/used" "$folder/environment.json" "$folder/failed" "$folder/beat" "$folder"; do
        [ ! -e "$time" ] || break
    done
    printf 'E %s %s %s\n' "$folder" "$state" "$(stat -c %Y -- "$time")"
    if [ -e "$folder/environment.json" ]; then
        printf 'J '
        head -n 1 -- "$folder/environment.json"
    else
        printf 'B %s\n' "$(($(du -sk -- "$folder" 2>/dev/null | cut -f 1) * 1024))"
    fi
done
exit 0
