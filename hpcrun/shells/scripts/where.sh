# After "root=": where the site's runs lie.
printf 'root %s\n' "$root"
