# shellcheck shell=bash
# One brick over TCP loopback, by Brickwork and by GlusterFS: serve it, mount it, end it. Sourced by mount.sh, which
# sets root, work, brickwork and timeouts, and offers refuse.
#
# Both run the very volfiles of the repository, volfiles/brick.vol and volfiles/client.vol, with their own defaults. A
# third brick, of GlusterFS, has the layers that `gluster volume create` would put around it.

# Processes of bricks, ended by end_bricks.
bricks=()

# What `gluster volume create` of 10.3 puts between posix and server, and above client, as far as it works on data and
# names; marker, index, quota, changelog and the like are switched off there and left out here.
stack_brick="features/access-control features/locks features/upcall performance/io-threads debug/io-stats"
stack_client="features/utime performance/write-behind performance/open-behind performance/quick-read
    performance/md-cache performance/io-threads debug/io-stats"

# Whether GlusterFS can be measured; a loud skip when not.
have_gluster() {
    if ! command -v glusterfsd >/dev/null && [ -n "${install:-}" ]; then
        apt-get install -y -qq --no-install-recommends glusterfs-server >/dev/null || true
    fi
    if ! command -v glusterfsd >/dev/null; then
        echo "SKIPPED the GlusterFS columns: apt-get install glusterfs-server, or run with --install" >&2
        return 1
    fi
}

# Prints a port that nobody listens on.
free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# Waits until process $1 accepts connections at port $2.
await_port() {
    for _ in $(seq 200); do
        kill -0 "$1" 2>/dev/null || return 1
        if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then return 0; fi
        sleep 0.05
    done
    return 1
}

# Serves $work/$1/brick with the command that follows; the port is left in $port.
serve() {
    local name=$1
    shift
    for _ in 1 2 3; do
        port=$(free_port)
        "$@" --xlator-option "posix.directory=$work/$name/brick" \
            --xlator-option "server.transport.socket.listen-port=$port" >"$work/$name/brick.out" 2>&1 &
        bricks+=($!)
        if await_port "$!" "$port"; then return 0; fi
        # Between free_port and here another process may have taken the port.
        wait "$!" || true
    done
    cat "$work/$name/brick.out" >&2
    refuse "no brick for $name" 1
}

network_brickwork() {
    serve network "$brickwork" brick serve "$root/volfiles/brick.vol"
    local options=()
    if [ -n "$timeouts" ]; then
        options=(-o "attribute-timeout=$timeouts,entry-timeout=$timeouts")
    fi
    "$brickwork" mount "${options[@]}" --log-file "$work/network/mount.log" \
        --xlator-option "client.remote-port=$port" "$root/volfiles/client.vol" "$work/network/mount"
}

# Mounts the brick at $port of GlusterFS at $work/$1/mount, by the volfile $2.
mount_gluster() {
    local options=()
    if [ -n "$timeouts" ]; then
        options=("--attribute-timeout=$timeouts" "--entry-timeout=$timeouts")
    fi
    glusterfs -f "$2" --xlator-option "client.remote-port=$port" "${options[@]}" \
        -l "$work/$1/mount.log" --pid-file "$work/$1/mount.pid" "$work/$1/mount" || true
    mountpoint -q "$work/$1/mount" || { tail -n 20 "$work/$1/mount.log" >&2; refuse "glusterfs did not mount $1" 1; }
}

network_gluster() {
    serve glusterfs glusterfsd -N -f "$root/volfiles/brick.vol" \
        -l "$work/glusterfs/brick.log" --pid-file "$work/glusterfs/brick.pid"
    mount_gluster glusterfs "$root/volfiles/client.vol"
}

# Prints the first volume of the volfile $1, named $2, and above it one of each type that follows, named as its type;
# io-stats is named `stats`, which is what brick.vol serves.
stacked() {
    local below=$2 name type
    sed '/^end-volume/q' "$1"
    shift 2
    for type in "$@"; do
        name=${type##*/} name=${name#io-}
        printf '\nvolume %s\n    type %s\n    subvolumes %s\nend-volume\n' "$name" "$type" "$below"
        below=$name
    done
}

network_gluster_stack() {
    local brick=$work/stack/brick.vol client=$work/stack/client.vol
    # shellcheck disable=SC2086 # words are what is meant
    stacked "$root/volfiles/brick.vol" posix $stack_brick >"$brick"
    sed -n '/^volume server/,$p' "$root/volfiles/brick.vol" >>"$brick"
    # shellcheck disable=SC2086
    stacked "$root/volfiles/client.vol" client $stack_client >"$client"
    serve stack glusterfsd -N -f "$brick" -l "$work/stack/brick.log" --pid-file "$work/stack/brick.pid"
    mount_gluster stack "$client"
}

# Ends what serve started: asks, waits, insists.
end_bricks() {
    local pid
    for pid in "${bricks[@]}"; do
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
