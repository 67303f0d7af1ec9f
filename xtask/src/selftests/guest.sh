# In a guest: runs $programs (each "CPUS:NAME", with CPUS `all` or a mask for taskset) without the
# agent, under it and after it. The host judges what is between the lines that start with
# @selftests.
say() { echo "@selftests $*"; }
now() { cut -d' ' -f1 /proc/uptime; }
get() { wget -q -O - "http://127.0.0.1:19943/$1" 2>/tmp/refused; }

counters() {
    say metrics "$1"
    get metrics |
        grep -E '^uffdwp_(node_|probe_events_total|probe_missed_total|record_failures_total)'
    say end
}

run() {
    for word in $programs; do
        cpus=${word%%:*} name=${word#*:}
        [ "$1" != under ] || counters "$name"
        pin=
        [ "$cpus" = all ] || pin="taskset $cpus"
        say run "$1" "$name" "$(now)"
        (cd /tmp && exec $pin "/selftests/$name") 2>&1
        say ended $? "$(now)"
        [ "$1" != under ] || counters "$name"
    done
}

ready() {
    get readyz > /tmp/ready && say ready "$1" yes && return
    say ready "$1" no
    cat /tmp/ready /tmp/refused
    tail -n 5 /tmp/agent.log
    return 1
}

run without
tracker agent --require-level full 2> /tmp/agent.log &
agent=$!
tries=0
until get readyz > /tmp/ready || [ $tries -eq 120 ] || ! kill -0 $agent; do
    tries=$((tries + 1))
    sleep 1
done
if ready before; then
    run under
    ready after
fi
kill -TERM $agent
wait $agent
say stopped $?
cat /tmp/agent.log
say end
run after
