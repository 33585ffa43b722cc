# After "root=": ROOT TREE: whether a snapshot is there. 93: root is not ROOT; 94: it is not, see missing;
# 96: there is no git.
tree=$2 store=$root/snapshots.git
same "$root" "$1"
command -v git >/dev/null 2>&1 || exit 96
look
