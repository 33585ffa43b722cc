# ROOT NAME BYTES DEAD: begin to make an environment, unless it is there, or being made; see env_stand. The
# builder, BYTES long, comes on standard input. DEAD: a folder whose builder has shown no life for long.
# 95: it cannot be done.
root=$1 name=$2 bytes=$3 dead=$4
umask 077
wanted=$root/$name-$(uname -m)
lock=$wanted.lock
mkdir -p -- "$root" || exit 95
if [ -n "$dead" ] && [ "$(readlink -- "$lock")" = "$dead" ] && mv -- "$lock" "$lock.$$" 2>/dev/null; then
    # Between the two looks another may have come: its lock is put back.
    other=$(readlink -- "$lock.$$")
    [ "$other" = "$dead" ] || ln -sn -- "$other" "$lock"
    rm -f -- "$lock.$$"
fi
if [ ! -e "$wanted/environment.json" ] && [ ! -L "$lock" ]; then
    count=0
    until folder=$wanted.$(date +%s)-$$-$count && mkdir -- "$folder" 2>/dev/null; do
        count=$((count + 1))
        [ "$count" -lt 100 ] || { mkdir -- "$folder"; exit 95; }
    done
    cat >"$folder/build.sh" || { rm -rf -- "$folder"; exit 95; }
    [ "$(wc -c <"$folder/build.sh")" -eq "$bytes" ] || { rm -rf -- "$folder"; exit 95; }
    (: >"$folder/beat" && : >"$folder/log.txt") || { rm -rf -- "$folder"; exit 95; }
    if ln -sn -- "${folder##*/}" "$lock" 2>/dev/null; then
        setsid=$(command -v setsid || command -v nohup)
        (cd -- "$folder" && exec $setsid bash "$folder/build.sh" "$folder") </dev/null >/dev/null 2>&1 &
    else
        rm -rf -- "$folder"
    fi
fi
stand "$wanted" ""
