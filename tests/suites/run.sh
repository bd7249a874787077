#!/usr/bin/env bash
# Runs the external suites on a file system of their own: tests/suites/run.sh [--on WHAT] [pjdfstest|fsx|fio|stress-ng|locks]...
#
#   --on brickwork    a Brickwork mount of a folder on a fresh ext4 (the default)
#   --on served       the same folder served by a brick that keeps locks, mounted over the network
#   --on passthrough  the plain FUSE passthrough of benches/: what differs there is FUSE's doing
#   --on ext4         the ext4 itself: the yardstick
#
# `locks` are the lock stressors of stress-ng.
#
# The ext4 lives in a 1 GiB image, so nothing of the machine's own file systems is touched. Needs root.
# BRICKWORK names the binary; without it, the release build of this tree is made and used.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

on=brickwork wanted=()
while [ $# -gt 0 ]; do
    case $1 in
        --on) [ $# -ge 2 ] || refuse "--on needs a value"; on=$2; shift ;;
        pjdfstest | fsx | fio | stress-ng | locks) wanted+=("$1") ;;
        *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; refuse "no suite $1" ;;
    esac
    shift
done
[ ${#wanted[@]} -gt 0 ] || wanted=(pjdfstest fsx fio stress-ng)
case $on in brickwork | served | passthrough | ext4) ;; *) refuse "--on brickwork, served, passthrough or ext4" ;; esac
need_root

work=$(mktemp -d)
# The suites act as users who must come through here.
chmod 755 "$work"
server=
clean_up() {
    trap - EXIT INT TERM HUP
    end_child
    if mountpoint -q "$work/mount" 2>/dev/null; then
        if [ "$on" = brickwork ] || [ "$on" = served ]; then "$brickwork" umount "$work/mount" || umount -l "$work/mount" || true
        else umount "$work/mount" || umount -l "$work/mount" || true; fi
    fi
    if [ -n "$server" ] && [ "$on" = served ]; then kill "$server" 2>/dev/null || true; fi
    if [ -n "$server" ]; then wait "$server" || true; fi
    if mountpoint -q "$work/ext4" 2>/dev/null; then umount "$work/ext4" || umount -l "$work/ext4" || true; fi
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$work/ext4" "$work/mount"
truncate -s 1G "$work/image"
mkfs.ext4 -q -F "$work/image"
mount -o loop,acl,user_xattr "$work/image" "$work/ext4"
mkdir "$work/ext4/brick"

case $on in
    ext4)
        under_test=$work/ext4
        export EXPECTED=/dev/null
        ;;
    passthrough)
        under_test=$work/mount
        CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/passthrough \
            cargo build --release --locked --quiet --manifest-path "$root/benches/passthrough/Cargo.toml"
        mkfifo "$work/ready"
        "${CARGO_TARGET_DIR:-$root/target}/passthrough/release/passthrough" "$work/ext4/brick" "$under_test" >"$work/ready" &
        server=$!
        said=
        read -r said <"$work/ready" || true
        [ "$said" = mounted ] || refuse "the passthrough did not mount" 1
        ;;
    brickwork | served)
        under_test=$work/mount
        brickwork=${BRICKWORK:-}
        if [ -z "$brickwork" ]; then
            (cd "$root" && cargo build --release --locked --quiet --bin brickwork)
            brickwork=${CARGO_TARGET_DIR:-$root/target}/release/brickwork
        fi
        cat >"$work/brick.vol" <<VOLFILE
volume posix
    type storage/posix
    option directory $work/ext4/brick
end-volume

volume locks
    type features/locks
    subvolumes posix
end-volume

volume stats
    type debug/io-stats
    subvolumes locks
end-volume
VOLFILE
        if [ "$on" = served ]; then
            cat >>"$work/brick.vol" <<VOLFILE

volume server
    type protocol/server
    option transport-type unix
    option transport.socket.listen-path $work/brick.sock
    option auth.addr.stats.allow *
    subvolumes stats
end-volume
VOLFILE
            cat >"$work/client.vol" <<VOLFILE
volume client
    type protocol/client
    option transport-type unix
    option transport.socket.connect-path $work/brick.sock
    option remote-subvolume stats
end-volume
VOLFILE
            "$brickwork" brick serve "$work/brick.vol" &
            server=$!
            "$brickwork" mount -o wait=30s "$work/client.vol" "$under_test"
        else
            "$brickwork" mount "$work/brick.vol" "$under_test"
        fi
        ;;
esac

status=0
for suite in "${wanted[@]}"; do
    echo "== $suite on $on"
    case $suite in
        locks) run_child "$suites/stress-ng.sh" "$under_test" flock fcntl locka lockf lockofd || status=1 ;;
        *) run_child "$suites/$suite.sh" "$under_test" || status=1 ;;
    esac
done
exit "$status"
