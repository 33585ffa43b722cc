# After "root=": where the site's runs lie, and who and what is there; a line a fact.
printf 'root %s\n' "$root"
printf 'user %s\n' "$(id -un)"
printf 'name %s\n' "$(hostname 2>/dev/null || uname -n)"
printf 'git %s\n' "$(git --version 2>/dev/null)"
printf 'rsync %s\n' "$(rsync --version 2>/dev/null | sed -n 1p)"
