# ROOT [NAME...]: what lies beside the environments to make the next ones sooner: "C NAME BYTES" for each, BYTES of
# what no environment has as well (what conda installs is linked). With names: they are taken away, said by "G NAME".
cd -- "$1" 2>/dev/null || exit 0
shift
if [ "$#" -eq 0 ]; then
    for each in .apptainer .cache/*; do
        [ -d "$each" ] && [ ! -L "$each" ] || continue
        bytes=$(find "$each" -type f -links 1 -exec stat -c %s -- {} + | {
            sum=0
            while read -r size; do sum=$((sum + size)); done
            printf '%s' "$sum"
        })
        printf 'C %s %s\n' "$each" "$bytes"
    done
    exit 0
fi
for each; do
    case $each in .apptainer | .cache/[!.]*) ;; *) continue ;; esac
    [ -d "$each" ] && [ ! -L "$each" ] || continue
    mv -- "$each" ".gone-cache-$$" && find ".gone-cache-$$" -type d ! -perm -700 -exec chmod u+rwx {} + 2>/dev/null
    rm -rf -- ".gone-cache-$$" && printf 'G %s\n' "$each"
done
rm -rf -- .gone-cache-*
exit 0
