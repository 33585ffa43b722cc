# RUN_DIR HOW WHAT MARK KNOWN: send what a run's job writes, as it grows. 92: there is no such folder.
# HOW: "once", or "on" until standard input says "end"; a line of it, any other one, says that somebody still
# listens, and without any the script ends. WHAT: "logs", or "status" alone. KNOWN: "KEY=BYTES ...", what is
# there already. KEY: "log", "job", or the digits of std_log_process_DIGITS.txt.
# What is sent, each with MARK behind it: "S;TEXT" status.json; "N KEY;" a log was made anew; "F KEY AT BYTES;DATA"
# a piece of it, shorter where the log was cut just now; "B;" nothing new; "E KEY=BYTES ...;" that is all.
# An idle look costs one process for any number of logs, and none for the status alone; and one that sleeps.
folder=$1 how=$2 what=$3 mark=$4 known=$5
piece=1048576
LC_ALL=C
export LC_ALL
unset TIME_STYLE QUOTING_STYLE BLOCK_SIZE BLOCKSIZE LS_BLOCK_SIZE POSIXLY_CORRECT LS_COLORS
cd -- "$folder" || exit 92
for each in $known; do
    eval "at_${each%%=*}=${each#*=}"
done
line_end='
'
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
status() {
    plain status.json || return 0
    line=
    { IFS= read -r line <status.json; } 2>/dev/null
    [ "$line" = "$said" ] && return 0
    said=$line
    printf 'S;%s%s' "$line" "$mark"
}
key_of() { # NAME: its key, or nothing for a name that is none of a log
    key=
    case $1 in
        user_logs/std_log.txt) key=log ;;
        system_logs/job.txt) key=job ;;
        user_logs/std_log_process_*.txt)
            key=${1#user_logs/std_log_process_}
            key=${key%.txt}
            case $key in *[!0-9]* | ??????????*) key= ;; esac
            ;;
    esac
}
logs() {
    set -- user_logs/std_log.txt user_logs/std_log_process_[0-9]*.txt system_logs/job.txt
    # A network file system asks its server how long a file is only when the file is opened.
    if [ "$#" -le 16 ] || [ "$((looks % 20))" -eq 0 ]; then
        for each; do
            plain "$each" && { true <"$each"; } 2>/dev/null
        done
    fi
    listing=$(ls -lnid -- "$@" 2>/dev/null)
    [ "$listing" = "$before" ] && return 0
    before=$listing
    IFS=$line_end
    set -f
    for line in $listing; do
        IFS=' '
        key_of "${line##* }"
        # shellcheck disable=SC2086
        [ -n "$key" ] && grown "${line##* }" $line
    done
    IFS=$usual
    set +f
}
grown() { # NAME INODE MODE LINKS USER GROUP SIZE ...: send what is new of one log
    case $3 in -*) ;; *) return 0 ;; esac
    node=
    eval "at=\${at_$key:-0} node=\${node_$key:-$2}"
    if [ "$7" -lt "$at" ] || [ "$node" != "$2" ]; then
        printf 'N %s;%s' "$key" "$mark"
        at=0
    fi
    length=$(($7 - at))
    if [ "$length" -gt "$piece" ]; then
        length=$piece before='' more=1
    fi
    if [ "$length" -gt 0 ]; then
        printf 'F %s %s %s;' "$key" "$at" "$length"
        tail -c "+$((at + 1))" -- "$1" 2>/dev/null | head -c "$length"
        printf '%s' "$mark"
        sent=$((sent + 1)) at=$((at + length))
    fi
    eval "at_$key=$at node_$key=$2"
    case " $keys " in *" $key "*) ;; *) keys="$keys $key" ;; esac
}
ending() {
    printf 'E'
    for each in $keys; do
        eval "printf ' %s=%s' $each \$at_$each"
    done
    printf ';%s' "$mark"
}
usual=$IFS said='' before='' keys='' finish='' looks=0 idle=0 silent=0
if [ "$how" = on ]; then
    # Signals come from the one that listens: of a shell that waits in "read" nothing else would be had.
    trap 'silent=0' USR1
    trap 'finish=1' USR2
    trap 'exit 0' TERM
    main=$(exec sh -c 'echo "$PPID"')
    exec 3<&0
    (
        trap - USR1 USR2 TERM
        while IFS= read -r word; do
            case $word in end) kill -USR2 "$main" ;; *) kill -USR1 "$main" ;; esac || exit 0
        done
        kill -TERM "$main"
    ) <&3 >/dev/null 2>&1 &
    trap 'kill '"$!"' 2>/dev/null' EXIT
    exec 3<&- </dev/null
    pause=0.25 quarters=1
    sleep 0.25 2>/dev/null || pause=1 quarters=4
fi
while :; do
    last=$finish sent=0 more=''
    status
    [ "$what" = logs ] && logs
    looks=$((looks + 1))
    [ -n "$more" ] && continue
    [ "$how" = once ] || [ -n "$last" ] && break
    # Thousands of processes that all print are looked at less often.
    for_now=$pause waited=$quarters
    [ "$sent" -gt 50 ] && for_now=1 waited=4
    [ "$sent" -gt 1000 ] && for_now=5 waited=20
    sleep "$for_now" || exit 1
    silent=$((silent + waited)) idle=$((idle + waited))
    [ "$silent" -gt 160 ] && exit 0 # nobody has been heard for forty seconds
    if [ "$idle" -ge 16 ]; then
        idle=0
        printf 'B;%s' "$mark" || exit 0
    fi
done
ending
exit 0
