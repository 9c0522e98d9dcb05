#!/usr/bin/env bash
# An MLflow server on PostgreSQL, for this machine alone: the database listens on a socket in its folder, the server on
# 127.0.0.1. For several machines see compose.yaml beside this.
#
#   examples/mlflow_server.sh start DIR [PORT]     then: ablate run depth --tracking-uri http://127.0.0.1:PORT
#   examples/mlflow_server.sh stop DIR
#
# Needs PostgreSQL's initdb and pg_ctl (Debian: apt-get install postgresql) and `pip install 'ablation-studies[postgres]'`.
# DIR keeps the database, the artifacts and two logs. Root may not run PostgreSQL: the user postgres then does.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 2 ] || usage
action=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
port=${3:-5000}
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')
python=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
command -v initdb >/dev/null && command -v pg_ctl >/dev/null || {
    echo "initdb or pg_ctl is missing. On Debian or Ubuntu: apt-get install postgresql" >&2
    exit 1
}

as_postgres() { # the owner of the database, who is never root
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- env PATH="$PATH" "$@"; else "$@"; fi
}

database() {
    mkdir -p "$folder/postgres" "$folder/socket"
    chmod 700 "$folder/postgres" "$folder/socket"
    [ "$(id -u)" != 0 ] || chown postgres: "$folder/postgres" "$folder/socket"
    cd "$folder"
    if [ ! -f "$folder/postgres/PG_VERSION" ]; then
        as_postgres initdb --pgdata "$folder/postgres" --username mlflow --auth trust --encoding UTF8 >/dev/null
    fi
    # no TCP at all: whoever may enter the socket's folder may connect
    as_postgres pg_ctl --pgdata "$folder/postgres" --log "$folder/postgres/log" --wait --silent start \
        --options "-c listen_addresses='' -c unix_socket_directories='$folder/socket'"
    as_postgres psql --host "$folder/socket" --username mlflow --dbname postgres --quiet --tuples-only --command \
        "SELECT 1 FROM pg_database WHERE datname = 'mlflow'" | grep -q 1 ||
        as_postgres createdb --host "$folder/socket" --username mlflow mlflow
}

server() {
    nohup "$python" -m mlflow server --host 127.0.0.1 --port "$port" --workers 1 \
        --backend-store-uri "postgresql+psycopg2://mlflow@/mlflow?host=$folder/socket" \
        --artifacts-destination "$folder/artifacts" >"$folder/server.log" 2>&1 &
    echo $! >"$folder/server.pid"
    for _ in $(seq 600); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "http://127.0.0.1:$port"
            return
        fi
        kill -0 "$(cat "$folder/server.pid")" 2>/dev/null || break
        sleep 0.2
    done
    echo "the server did not come up; see $folder/server.log" >&2
    exit 1
}

case $action in
start)
    database
    server
    ;;
stop)
    [ ! -f "$folder/server.pid" ] || kill "$(cat "$folder/server.pid")" 2>/dev/null || true
    rm -f "$folder/server.pid"
    cd "$folder"
    as_postgres pg_ctl --pgdata "$folder/postgres" --mode fast --wait --silent stop
    ;;
*) usage ;;
esac
