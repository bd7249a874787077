#!/usr/bin/env bash
# Writes with fio and reads back against checksums, in the ways that programs write: tests/suites/fio.sh MOUNTPOINT
#
# 32 MiB per job and way; 256 MiB with BRICKWORK_ROUNDS=full.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

mount_point=$(mountpoint_argument "$@")
command -v fio >/dev/null || refuse "needs fio: apt-get install fio" 77
size=32m
if full; then size=256m; fi
work=$(mktemp -d)
scratch=$(mktemp -d "$mount_point/fio.XXXXXX")
clean_up() {
    trap - EXIT INT TERM HUP
    rm -rf "$work" "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

status=0
# verify NAME OPTION...: four jobs with a file each; every block carries its checksum, offset and generation.
verify() {
    local name=$1
    shift
    if fio --name="$name" --directory="$scratch" --size="$size" --numjobs=4 --thread --group_reporting --verify_state_save=0 \
        --verify=crc32c --verify_fatal=1 --do_verify=1 "$@" >"$work/log" 2>&1; then
        echo "$name: every block as written"
    else
        echo "$name: FAILED"
        grep -aE 'verify|error|err=' "$work/log" | head -n 20
        status=1
    fi
    rm -f "$scratch"/*
}

verify small-random-writes --rw=randwrite --bsrange=512-64k --bs_unaligned=1 --ioengine=psync
verify overwritten-twice --rw=randrw --bs=4k --ioengine=psync --verify_backlog=1024
verify large-writes --rw=write --bs=1m --ioengine=psync --fsync=8
verify queued-direct --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --direct=1 --verify_async=2
verify mapped --rw=randwrite --bs=4k --ioengine=mmap
verify preallocated --rw=randwrite --bs=16k --ioengine=psync --fallocate=posix
exit "$status"
