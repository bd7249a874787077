#!/usr/bin/env bash
# Runs pjdfstest, the POSIX test suite for file systems, on a mount: tests/suites/pjdfstest.sh MOUNTPOINT
#
# What fails or is skipped must be just what pjdfstest.expected lists (EXPECTED names another file).
# The tests that need a read-only file system run on their own afterwards: they remount MOUNTPOINT, which must
# therefore be a mount point with nothing else open on it. Needs root, for the mount's users and for the remount.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

mount_point=$(mountpoint_argument "$@")
need_root
expected=${EXPECTED:-$suites/pjdfstest.expected}
pjdfstest=$(tool pjdfstest 0.2.2)
work=$(mktemp -d)
users=("bwpjd$$a" "bwpjd$$b")

clean_up() {
    trap - EXIT INT TERM HUP
    for user in "${users[@]}"; do
        if id "$user" >/dev/null 2>&1; then userdel "$user"; fi
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# Users of our own under names of our own: two runs at once do not meet.
for user in "${users[@]}"; do
    useradd --system --no-create-home --user-group --shell /usr/sbin/nologin "$user"
done

# mount(8) would hand a remount of a FUSE file system to mount.fuse, which starts a server instead.
mkdir "$work/bin"
printf '#!/bin/sh\nexec %s -i "$@"\n' "$(command -v mount)" >"$work/bin/mount"
chmod +x "$work/bin/mount"

configure() {
    cat <<TOML
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}

[settings]
# Above the granularity of the kernel's coarse clock.
naptime = 0.01
allow_remount = $1

[dummy_auth]
entries = [["${users[0]}", "${users[0]}"], ["${users[1]}", "${users[1]}"]]
TOML
}

# /dev/shm is a second file system, for EXDEV.
run() {
    configure "$1" >"$work/$2.toml"
    shift 2
    PATH=$work/bin:$PATH "$pjdfstest" --configuration-file "$work/$name.toml" --path "$mount_point" \
        --secondary-fs /dev/shm "$@" >"$work/$name.log" 2>&1 || true
    grep -q '^Summary' "$work/$name.log" || { cat "$work/$name.log"; refuse "pjdfstest itself did not finish" 1; }
    grep '^Summary' "$work/$name.log"
}

# Every test once: those of read-only file systems are skipped in the first run.
name=main && run false main
names=(main)
if mountpoint -q "$mount_point" && [ "$mount_point" != / ]; then
    name=erofs && run true erofs erofs
    names+=(erofs)
else
    echo "SKIPPED: the tests of a read-only file system, since $mount_point is no mount point"
fi

logs=("${names[@]/#/$work/}")
awk '$2 == "FAILED" { print $1 }' "${logs[@]/%/.log}" >"$work/failed"
awk '$2 == "skipped" && $1 !~ /::erofs_/ { print $1 }' "${logs[@]/%/.log}" >"$work/skipped"

status=0
compare_names fail "$expected" "$work/failed" || status=1
compare_names skip "$expected" "$work/skipped" || status=1
if [ "$status" != 0 ]; then
    grep -A 6 ' FAILED$' "${logs[@]/%/.log}" || true
fi
exit "$status"
