#!/usr/bin/env bash
# The same work on our mount, on a plain passthrough mount, and on the folder itself: ops/s and ratios.
#
#   benches/mount.sh [--quick] [--rounds N] [--only TEXT] [--require RATIO] [--json FILE]
#                    [--backing DIR] [--without-brickwork]
#
#   --quick              a quarter of the data, 600 files instead of 3,000, 3 rounds instead of 5
#   --only TEXT          only the rows whose name contains TEXT
#   --require RATIO      mark rows below RATIO (0.80), and exit with 2 when there is one
#   --json FILE          every figure of every round
#   --backing DIR        measure on the file system of DIR; without it on a fresh ext4 in memory, which is quieter
#   --without-brickwork  only the passthrough and the folder: what FUSE itself costs here
#
# BRICKWORK names the binary to measure; without it, the release build of this tree is made and used.
# Needs root, /dev/fuse and fio. What the figures mean: benches/README.md.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
quick=() rounds=5 only=() require=0.80 json=() backing= with_brickwork=1

usage() { sed -n '2,16s/^# \{0,1\}//p' "$0"; }
refuse() { echo "mount.sh: $1" >&2; exit "${2:-64}"; }
value() { [ $# -ge 2 ] || refuse "$1 needs a value"; printf '%s' "$2"; }

while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=(--quick); rounds=3 ;;
        --rounds) rounds=$(value "$@"); shift ;;
        --only) only=(--only "$(value "$@")"); shift ;;
        --require) require=$(value "$@"); shift ;;
        --json) json=(--json "$(value "$@")"); shift ;;
        --backing) backing=$(value "$@"); shift ;;
        --without-brickwork) with_brickwork= ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; refuse "no option $1" ;;
    esac
    shift
done

[ "$(id -u)" = 0 ] || refuse "needs root: the passthrough keeps owners" 77
[ -c /dev/fuse ] || refuse "needs /dev/fuse" 77
command -v fio >/dev/null || refuse "needs fio: apt-get install fio" 77

# --- build ------------------------------------------------------------------------------------------------------

helpers=${CARGO_TARGET_DIR:-$root/target}/passthrough
CARGO_TARGET_DIR=$helpers cargo build --release --locked --quiet --manifest-path "$root/benches/passthrough/Cargo.toml"
brickwork=${BRICKWORK:-}
if [ -n "$with_brickwork" ] && [ -z "$brickwork" ]; then
    (cd "$root" && cargo build --release --locked --quiet --bin brickwork)
    brickwork=${CARGO_TARGET_DIR:-$root/target}/release/brickwork
fi

# --- set up, and whatever happens, clean up -----------------------------------------------------------------------

work=$(mktemp -d "${backing:-${TMPDIR:-/tmp}}/brickwork-bench.XXXXXX")
image=
passthrough_pid=

# Runs a command in a session of its own, so that all of it can be ended when this script is.
child=
run_child() {
    setsid "$@" &
    child=$!
    local result=0
    wait "$child" || result=$?
    child=
    return "$result"
}

# Ends what run_child runs: asks, waits up to 30 s, insists.
end_child() {
    [ -n "$child" ] || return 0
    pkill -TERM -s "$child" || true
    for _ in $(seq 300); do
        pgrep -s "$child" >/dev/null || return 0
        sleep 0.1
    done
    pkill -KILL -s "$child" || true
}

# A folder that is still mounted is never entered: --one-file-system, and only after both unmounts.
clean_up() {
    trap - EXIT INT TERM HUP
    end_child
    if mountpoint -q "$work/ours/mount" 2>/dev/null; then
        "$brickwork" umount "$work/ours/mount" || umount -l "$work/ours/mount" || true
    fi
    if mountpoint -q "$work/passthrough/mount" 2>/dev/null; then
        umount "$work/passthrough/mount" || umount -l "$work/passthrough/mount" || true
    fi
    if [ -n "$passthrough_pid" ]; then wait "$passthrough_pid" || true; fi
    if [ -n "$image" ]; then
        if mountpoint -q "$work"; then umount "$work" || umount -l "$work" || true; fi
        rm -f "$image"
    fi
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -z "$backing" ]; then
    image=$(mktemp /dev/shm/brickwork-bench.XXXXXX)
    truncate -s 2G "$image"
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$image"
    mount -o loop "$image" "$work"
fi
mkdir -p "$work"/{ours,passthrough}/{brick,mount} "$work/folder"

mount_passthrough() {
    mkfifo "$work/ready"
    "$helpers/release/passthrough" "$work/passthrough/brick" "$work/passthrough/mount" >"$work/ready" &
    passthrough_pid=$!
    local said=
    read -r said <"$work/ready" || true
    [ "$said" = mounted ] || refuse "the passthrough did not mount" 1
}

mount_ours() {
    cat >"$work/ours/brick.vol" <<VOLFILE
volume posix
    type storage/posix
    option directory $work/ours/brick
end-volume

volume stats
    type debug/io-stats
    subvolumes posix
end-volume
VOLFILE
    "$brickwork" mount "$work/ours/brick.vol" "$work/ours/mount"
    mountpoint -q "$work/ours/mount" || refuse "brickwork mount returned, but nothing is mounted" 1
}

# The resident memory of the process that serves our mount.
resident() {
    local pid
    for pid in $(pgrep -f -- "$work/ours/"); do
        awk -v when="$1" '/^VmRSS/ { printf "resident memory %s: %.1f MiB\n", when, $2 / 1024 }' "/proc/$pid/status"
    done
}

# --- measure ------------------------------------------------------------------------------------------------------

echo "# $(date -u +%FT%TZ)  Linux $(uname -r)  $(nproc) processors  load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "# on $(findmnt -no FSTYPE -T "$work"), commit $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
mount_passthrough
targets=("passthrough=$work/passthrough/mount" "folder=$work/folder")
if [ -n "$with_brickwork" ]; then
    mount_ours
    targets=("brickwork=$work/ours/mount" "${targets[@]}")
    resident "when idle"
else
    require=0
fi
status=0
run_child "$helpers/release/compare" "${quick[@]}" "${only[@]}" "${json[@]}" --rounds "$rounds" --require "$require" \
    "${targets[@]}" || status=$?
if [ -n "$with_brickwork" ]; then resident "after the work"; fi
exit "$status"
