# After "root=": the ids of runs on standard input. What there is to bring home of each, as records that end in
# NUL, their fields in tabs: "R<id>"; "G<id>" where the run's folder is gone; then of every file "f<size>
# <mtime> <name>", of every link "l<size> <mtime> <name> <where it leads>", names from ROOT/runs.
# Where find cannot print, "c<crc> <size> <name>" instead, and neither links nor names with line breaks.
cd -- "$root/runs" || exit 95
if find . -prune -printf '' 2>/dev/null; then
    list() {
        find "$@" -type f -printf 'f%s\t%T@\t%p\0' -o -type l -printf 'l%s\t%T@\t%p\t%l\0' 2>/dev/null
    }
else
    list() {
        find "$@" -type f -exec cksum {} + 2>/dev/null | sed -e 's/^\([0-9]*\) \([0-9]*\) /c\1	\2	/' | tr '\n' '\0'
    }
fi
while IFS= read -r run; do
    if [ -d "$run" ]; then
        printf 'R%s\0' "$run"
        list "$run/code/outputs" "$run/code/logs" "$run/user_logs" "$run/system_logs" "$run/metrics"
    else
        printf 'G%s\0' "$run"
    fi
done
