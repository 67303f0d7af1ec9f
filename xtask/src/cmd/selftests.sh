# In a guest: the kernel's own tests alone, then under the agent. Tells for each its status and
# what failed.
tests="pagemap_ioctl uffd-unit-tests"
ready() { wget -q -O - http://127.0.0.1:19943/readyz > /tmp/ready 2>&1; }

run() {
    for test in $tests; do
        (cd /tmp && exec /selftests/$test) > /tmp/$1.$test 2>&1
        echo "status $1 $test $?"
        grep -E '^not ok|failed \[|\.\.\. failed' /tmp/$1.$test |
            sed -E 's/^not ok [0-9]+/not ok/; s/ \[reason.*//' | sort > /tmp/$1.$test.failed
    done
}

run alone
tracker agent --require-level partial 2> /tmp/agent.log &
agent=$!
tries=0
until ready; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "the agent is not ready"; cat /tmp/ready /tmp/agent.log; exit 1; }
    sleep 1
done
wget -q -O - http://127.0.0.1:19943/metrics | grep '^uffdwp_level'
run observed
result=0
for test in $tests; do
    if ! diff /tmp/alone.$test.failed /tmp/observed.$test.failed; then
        echo "$test fails differently under the agent (< alone, > under the agent)"
        tail -n 20 /tmp/observed.$test
        result=1
    fi
done
ready || { echo "the agent is no longer ready"; cat /tmp/ready /tmp/agent.log; result=1; }
wget -q -O - http://127.0.0.1:19943/metrics | grep '^uffdwp_node_\(faults\|markers\)_total'
kill -TERM $agent
wait $agent || { echo "the agent ended with status $?"; result=1; }
exit $result
