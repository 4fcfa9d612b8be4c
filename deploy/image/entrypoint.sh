#!/bin/sh
# Starts Spin, and drains at SIGTERM, which Spin does not: it ends in the middle of requests. How often an instance is
# reused, Spin takes as flags only: neither the environment nor a SpinApp can set them.
set -eu

if [ "${1:-}" != up ]; then
    exec spin "$@"
fi

# A connection is a file descriptor, and Spin ends when it has none left for the next one.
ulimit -S -n "$(ulimit -H -n)"

address=${SPIN_HTTP_LISTEN_ADDR:-127.0.0.1:3000} before=
for argument; do
    if [ "$before" = --listen ]; then address=$argument; fi
    before=$argument
done
port=$(printf %04X "${address##*:}")

# Whether a client is connected: field 2 ends with the port that Spin listens on, field 4 is 01, established.
connected() {
    while read -r _ local _ state _; do
        case "${local##*:} $state" in "$port 01") return 0 ;; esac
    done <<END
$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
END
    return 1
}

# Serves on for 5 s, since gateways send requests until they know, and then until nobody is connected: Spin cannot
# refuse the next connection, nor tell a client that keeps its own to close it. Connections that remain are cut after
# ORDERS_DRAIN_SECONDS: 5 s, 10 s for a body, 5.5 s for the stores, and some to spare.
drain() {
    second=0
    while [ "$second" -lt "${ORDERS_DRAIN_SECONDS:-25}" ] && { [ "$second" -lt 5 ] || connected; }; do
        sleep 1
        second=$((second + 1))
    done
    kill -TERM "$spin" 2>/dev/null || true
    finish
}

finish() {
    status=0
    wait "$spin" || status=$?
    exit "$status"
}

# The defaults are those that docs/dev/performance.md recommends, and that the figures in docs/capacity.md were measured
# with.
# Without a folder for its state: nothing uses Spin's stores, and the root file system is read-only.
spin "$@" \
    --state-dir "" \
    --max-instance-reuse-count "${ORDERS_INSTANCE_REUSE_COUNT:-128}" \
    --max-instance-concurrent-reuse-count "${ORDERS_INSTANCE_CONCURRENCY:-16}" \
    --idle-instance-timeout "${ORDERS_INSTANCE_IDLE_TIMEOUT:-1s}" &
spin=$!
trap drain TERM INT
# At a signal, wait returns and the trap runs, which does not return.
finish
