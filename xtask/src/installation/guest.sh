#!/bin/bash
# Runs in a Debian under systemd: installs the package, uses it as an operator does, removes it. Each
# step is a function, and prints a line as Rust's tests do. The first that fails ends it all.
set -u

UNIT=uffdwp-tracker
OPTIONS=/etc/default/$UNIT
AGENT=127.0.0.1:19943
PROMETHEUS=http://127.0.0.1:9090
WEB=/etc/tracker

step() {
    printf 'test %s ... ' "$1"
    (set -eu; "$1") > /root/step.log 2>&1
    status=$?
    if [ $status = 0 ]; then
        echo ok
        return
    fi
    echo FAILED
    tail -n 40 /root/step.log
    journalctl --no-pager -n 30 -u $UNIT
    exit $status
}

# Tries a command every second until it succeeds, for at most $1 seconds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "in vain: $*"; return 1; }
        sleep 1
    done
}

# Fails if a command succeeds. (`!` would not end a step.)
not() {
    if "$@"; then
        echo "not expected: $*"
        return 1
    fi
}

# All files of the root, without what dpkg and apt note about any package.
files() {
    find / -xdev \( -path /root -o -path /tmp -o -path /var/tmp -o -path /var/cache -o -path /var/log \
        -o -path '/var/lib/dpkg/status-old' -o -path '/var/lib/dpkg/*lock*' \
        -o -path /var/lib/dpkg/triggers -o -path /var/lib/apt/extended_states \
        -o -path /var/lib/apt/lists \) -prune -o -print | sort
}

main_pid() { systemctl show --value --property=MainPID $UNIT; }

# curl with what the agent asks for; $1 is the password, or `-` for no user.
ask() {
    local password=$1 path=$2
    shift 2
    local user=(--user "prometheus:$password")
    [ "$password" != - ] || user=()
    curl --silent --show-error --max-time 20 --output /root/answer --write-out '%{http_code}\n' \
        --cacert $WEB/ca.pem "${user[@]}" "$@" "https://$AGENT$path"
}
known=(--cert $WEB/client.pem --key $WEB/client.key)
answers() { [ "$(ask "$2" /healthz "${known[@]}")" = "$1" ]; }

# Signs a certificate for 127.0.0.1 as $1.pem and $1.key.
sign() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $WEB/new.key \
        -subj "/CN=$1" -out /root/request.pem
    openssl x509 -req -in /root/request.pem -CA $WEB/ca.pem -CAkey $WEB/ca.key -CAcreateserial \
        -days 2 -extfile <(echo subjectAltName=IP:127.0.0.1) -out $WEB/new.pem
    mv $WEB/new.key "$WEB/$1.key"
    mv $WEB/new.pem "$WEB/$1.pem"
}

shown_serial() {
    openssl s_client -connect $AGENT -cert $WEB/client.pem -key $WEB/client.key < /dev/null 2> /dev/null |
        openssl x509 -noout -serial
}

has_level_full() {
    curl --silent "$@" | grep -qxF 'uffdwp_level{level="full"} 1'
}

# --- the steps ---

it_installs_and_starts() {
    apt-get install --yes /root/uffdwp-tracker_*.deb
    systemctl is-active $UNIT
    systemctl is-enabled $UNIT
}

it_reaches_level_full() {
    within 240 has_level_full http://$AGENT/metrics
    curl --silent --fail http://$AGENT/readyz
}

it_runs_as_a_user_of_its_own_with_the_capabilities_of_the_unit() {
    local status
    status=$(cat "/proc/$(main_pid)/status")
    echo "$status"
    not grep -qE '^Uid:\s+0\s' <<< "$status"
    # CAP_DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN, SYSLOG, PERFMON, BPF.
    grep -qE '^CapBnd:\s+000000c400280004$' <<< "$status"
    grep -qE '^NoNewPrivs:\s+1$' <<< "$status"
    grep -qE '^Seccomp:\s+2$' <<< "$status"
}

its_rules_are_there_and_pass_their_tests() {
    cd /usr/share/$UNIT/rules
    promtool check rules recording.yml alerts.yml
    promtool test rules alerts.test.yml
}

it_asks_for_a_certificate_and_a_password() {
    mkdir $WEB
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $WEB/ca.key \
        -subj /CN=authority -days 2 -out $WEB/ca.pem
    sign server
    sign client
    cp /root/web.yml $WEB/web.yml
    echo TRACKER_WEB_CONFIG_FILE=$WEB/web.yml >> $OPTIONS
    systemctl restart $UNIT
    answers 200 'open sesame'
    answers 401 wrong
    answers 401 -
    not ask 'open sesame' /healthz
    not curl --silent --fail --max-time 20 http://$AGENT/healthz
}

prometheus_scrapes_it_and_is_refused_without_what_is_asked_for() {
    systemd-run --unit=prometheus prometheus --config.file=/root/prometheus.yml \
        --storage.tsdb.path=/root/prometheus-data --web.listen-address=127.0.0.1:9090
    one_job_of_four_is_up() {
        curl --silent $PROMETHEUS/api/v1/query --data-urlencode \
            'query=up{job="tracker"} == 1 and on () count(up == 0) == 3' | grep -q '"metric"'
    }
    within 240 one_job_of_four_is_up
    curl --silent $PROMETHEUS/api/v1/targets > /root/targets
    grep -oE '"lastError":"[^"]*' /root/targets
    grep -q '401 Unauthorized' /root/targets
    grep -q 'certificate required' /root/targets
    level_is_recorded() {
        curl --silent $PROMETHEUS/api/v1/query --data-urlencode \
            'query=job:uffdwp_level:count{level="full"} == 1' | grep -q '"metric"'
    }
    within 240 level_is_recorded
    systemctl stop prometheus
}

it_takes_a_new_password_when_it_is_reloaded() {
    local pid
    pid=$(main_pid)
    sed -i 's/^  prometheus: .*/  prometheus: '"$(cat /root/changed)"'/' $WEB/web.yml
    systemctl reload $UNIT
    within 30 answers 200 changed
    answers 401 'open sesame'
    [ "$(main_pid)" = "$pid" ]
}

it_shows_a_new_certificate_without_being_told() {
    local pid before
    pid=$(main_pid)
    before=$(shown_serial)
    sign server
    another_is_shown() { [ "$(shown_serial)" != "$before" ]; }
    within 60 another_is_shown
    [ "$(shown_serial)" = "$(openssl x509 -noout -serial -in $WEB/server.pem)" ]
    [ "$(main_pid)" = "$pid" ]
}

it_keeps_what_was_in_force_when_the_file_is_wrong() {
    cp $WEB/web.yml /root/good.yml
    echo 'no_such_key: 1' >> $WEB/web.yml
    systemctl reload $UNIT
    said() { journalctl --no-pager -u $UNIT | grep -q no_such_key; }
    within 30 said
    answers 200 changed
    cp /root/good.yml $WEB/web.yml
}

it_is_started_again_when_it_is_killed() {
    local pid
    pid=$(main_pid)
    kill -KILL "$pid"
    another_runs() { [ "$(main_pid)" != 0 ] && [ "$(main_pid)" != "$pid" ] && answers 200 changed; }
    within 240 another_runs
}

an_upgrade_keeps_the_options_and_starts_it_again() {
    local pid
    pid=$(main_pid)
    apt-get install --yes --reinstall /root/uffdwp-tracker_*.deb
    grep -qxF TRACKER_WEB_CONFIG_FILE=$WEB/web.yml $OPTIONS
    [ "$(main_pid)" != "$pid" ]
    answers 200 changed
}

it_reaches_level_full_again() {
    within 240 has_level_full --cacert $WEB/ca.pem --user prometheus:changed "${known[@]}" \
        https://$AGENT/metrics
}

removal_stops_it_and_keeps_the_options() {
    local pid
    pid=$(main_pid)
    apt-get remove --yes $UNIT
    [ ! -d "/proc/$pid" ]
    [ ! -e /usr/bin/tracker ]
    grep -qxF TRACKER_WEB_CONFIG_FILE=$WEB/web.yml $OPTIONS
}

purging_leaves_no_trace() {
    apt-get purge --yes $UNIT
    rm -r $WEB
    files > /root/after
    diff /root/before /root/after
    [ -z "$(systemctl list-unit-files --no-legend "$UNIT*")" ]
    [ -z "$(systemctl list-units --all --no-legend "$UNIT*")" ]
    not getent passwd $UNIT
    not dpkg-query --show $UNIT
}

files > /root/before
step it_installs_and_starts
step it_reaches_level_full
step it_runs_as_a_user_of_its_own_with_the_capabilities_of_the_unit
step its_rules_are_there_and_pass_their_tests
step it_asks_for_a_certificate_and_a_password
step prometheus_scrapes_it_and_is_refused_without_what_is_asked_for
step it_takes_a_new_password_when_it_is_reloaded
step it_shows_a_new_certificate_without_being_told
step it_keeps_what_was_in_force_when_the_file_is_wrong
step it_is_started_again_when_it_is_killed
step an_upgrade_keeps_the_options_and_starts_it_again
step it_reaches_level_full_again
step removal_stops_it_and_keeps_the_options
step purging_leaves_no_trace
