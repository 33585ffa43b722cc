# After "root=": names on standard input, each ending in NUL: the files, as one tar.
cd -- "$root/runs" || exit 95
if tar --null -cf /dev/null -T /dev/null 2>/dev/null; then
    tar --null --no-recursion --ignore-failed-read -cf - -T -
else
    xargs -0 tar -cf - # perhaps several, one behind the other
fi
