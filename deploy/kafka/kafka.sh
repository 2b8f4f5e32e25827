#!/usr/bin/env bash
# A single Kafka broker (KRaft) without a container engine: kafka.sh start|stop|kill|status
#
#   LAUREL_KAFKA_DIR              data, log and pid; default .kafka in the repository
#   LAUREL_KAFKA_DATA_DIR         the topics alone, on another disk; what Kafka knows of them then stays in LAUREL_KAFKA_DIR
#   LAUREL_KAFKA_LIBS             the broker's jars; default .kafka/libs in the repository
#   LAUREL_KAFKA_PORT             default 9092, on 127.0.0.1 only, without authentication: for development
#   LAUREL_KAFKA_CONTROLLER_PORT  default LAUREL_KAFKA_PORT + 1
#   LAUREL_KAFKA_ADVERTISED_PORT  where clients are told to come; default LAUREL_KAFKA_PORT (a proxy's, in tests)
#   LAUREL_KAFKA_HEAP             default 512m
#
# `start` does nothing when the broker answers already; `kill` is kill -9, for tests. Needs Java 17 or newer, and
# Maven once, for the jars.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
dir=${LAUREL_KAFKA_DIR:-$repository/.kafka}
data=${LAUREL_KAFKA_DATA_DIR:-$dir/data}
metadata_dir=${LAUREL_KAFKA_DATA_DIR:+metadata.log.dir=$dir/metadata}
libs=${LAUREL_KAFKA_LIBS:-$repository/.kafka/libs}
port=${LAUREL_KAFKA_PORT:-9092}
controller_port=${LAUREL_KAFKA_CONTROLLER_PORT:-$((port + 1))}
advertised_port=${LAUREL_KAFKA_ADVERTISED_PORT:-$port}
heap=${LAUREL_KAFKA_HEAP:-512m}
room_mib=64
pid_file=$dir/kafka.pid
log=$dir/kafka.log

fail() {
    echo "kafka: $*" >&2
    exit 1
}

running() {
    local args
    [ -s "$pid_file" ] && args=$(ps -ww -p "$(cat "$pid_file")" -o args= 2>/dev/null) &&
        [[ $args == *"kafka.Kafka $dir/server.properties"* ]]
}

# True when the broker answers an ApiVersions request (key 18, version 0), not merely when its port is open.
answers() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
        printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff' >&3
        answer=$(timeout 2 head -c 8 <&3 | od -An -tx1 | tr -d ' \n')
        [ "${answer:8:8}" = 00000001 ]
    ) 2>/dev/null
}

need_java() {
    command -v java >/dev/null || fail "Java 17 or newer is missing (Debian: apt install openjdk-17-jre-headless)"
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] || fail "Java 17 or newer is missing: 'java' is version ${version:-unknown}"
}

fetch_libs() {
    cmp -s "$here/pom.xml" "$libs/.pom.xml" && return
    command -v mvn >/dev/null || fail "Maven is missing, which fetches the broker's jars (Debian: apt install maven)"
    echo "kafka: fetching the broker's jars (43 MB, once)"
    mkdir -p "$(dirname "$libs")"
    local fresh
    fresh=$(mktemp -d "$(dirname "$libs")/libs.XXXXXX")
    # Java asks the user database for the home folder; a user that has none there (nobody) may have $HOME all the same.
    local home
    home=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6)
    [ -w "${home:-${HOME:-}}" ] || export MAVEN_OPTS="${MAVEN_OPTS:-} -Duser.home=${HOME:-$fresh}"
    mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$fresh" \
        >"$fresh/maven.log" 2>&1 || {
        tail -n 20 "$fresh/maven.log" >&2
        rm -rf "$fresh"
        fail "Maven could not fetch the jars (see above)"
    }
    cp "$here/pom.xml" "$fresh/.pom.xml"
    rm -rf "$libs"
    chmod 755 "$fresh"
    mv "$fresh" "$libs" # whole or not at all
}

# Kafka 4.3.1 that starts on a full disk can take a sound segment for a corrupt one and delete it, acknowledged records
# and all, or hang: it is not started before there is room.
need_room() {
    local place free
    for place in "$dir" "$data"; do
        free=$(df -Pk "$place" | awk 'NR == 2 { print $4 }')
        [ "$free" -ge $((room_mib * 1024)) ] ||
            fail "$place has $((free / 1024)) MiB left and a broker needs $room_mib to start: make room, then start it again"
    done
}

write_properties() {
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$advertised_port
controller.listener.names=CONTROLLER
log.dirs=$data
$metadata_dir
auto.create.topics.enable=false
# One node: nothing can be replicated.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Small segments (1 MiB is the least allowed) are compacted soon, so that the group coordinator loads quickly. Kafka 4.3.1 can lose a group's
# coordinator for good ("out of sync with the underlying log") when leadership changes while it loads, which is what
# happens in a restart after kill -9; then only another restart helps.
offsets.topic.segment.bytes=1048576
# No wait for more members, and a crashed broker is let in again after 4 s instead of 9.
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
PROPERTIES
}

# The quick compiler alone: the other one takes as much of a small machine as the broker itself for the first minute, and
# gains nothing in the next six.
java=(java "-Xmx$heap" "-Xms$heap" -XX:+ExitOnOutOfMemoryError -XX:TieredStopAtLevel=1 -Djava.awt.headless=true
    "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$libs/*")

# Where it may, it interrupts nobody when it wakes up: docs/adr/0017-wait-for-the-turn.md.
if chrt -b 0 true 2>/dev/null; then patiently=(chrt -b 0); else patiently=(env); fi

start() {
    if running && answers; then
        echo "kafka: running already at kafka://127.0.0.1:$port (pid $(cat "$pid_file"), $dir)"
        return
    fi
    mkdir -p "$dir" "$data"
    running || need_room
    need_java
    fetch_libs
    if ! running; then
        ! answers || fail "port $port is taken by another broker: stop it, or set LAUREL_KAFKA_PORT"
        write_properties
        if [ ! -s "$data/meta.properties" ]; then
            local cluster
            # A cluster id is 16 random bytes in base64url, not beginning with a dash.
            cluster=L$(head -c 32 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | head -c 20)g
            "${java[@]}" kafka.tools.StorageTool format --standalone -t "$cluster" \
                -c "$dir/server.properties" >"$dir/format.log" 2>&1 || {
                tail -n 5 "$dir/format.log" >&2
                fail "the data folder could not be formatted (see above)"
            }
        fi
        "${patiently[@]}" "${java[@]}" kafka.Kafka "$dir/server.properties" >>"$log" 2>&1 </dev/null &
        echo $! >"$pid_file"
        disown
    fi
    local i
    for ((i = 0; i < 300; i++)); do
        if answers; then
            echo "kafka: running at kafka://127.0.0.1:$port (pid $(cat "$pid_file"), $dir)"
            return
        fi
        running || [ "$i" -lt 10 ] || {
            tail -n 20 "$log" >&2
            fail "the broker ended while starting (see above and $log)"
        }
        sleep 0.2
    done
    fail "the broker did not answer within 60 s, see $log"
}

stop() {
    if ! running; then
        echo "kafka: not running"
        return
    fi
    local pid
    pid=$(cat "$pid_file")
    kill "-$1" "$pid"
    local i
    for ((i = 0; i < 150; i++)); do
        if ! running; then
            rm -f "$pid_file"
            echo "kafka: stopped"
            return
        fi
        sleep 0.2
    done
    kill -KILL "$pid"
    rm -f "$pid_file"
    echo "kafka: did not stop within 30 s and was killed"
}

case ${1:-} in
start) start ;;
stop) stop TERM ;;
kill) stop KILL ;;
status)
    if running && answers; then
        echo "kafka: running at kafka://127.0.0.1:$port (pid $(cat "$pid_file"), $dir)"
    else
        echo "kafka: not running"
        exit 3
    fi
    ;;
*) fail "say start, stop, kill or status" ;;
esac
