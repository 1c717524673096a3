#!/bin/sh
# Runs the tests of module redisstore with each server that is found: redis-server, valkey-server
# and keydb-server in PATH, and the programs whose paths are in SERVERS. All of them take the
# options of redis-server; servers with other options, such as Dragonfly, cannot be started by the
# tests. Arguments are passed to go test. It fails if there is no server, or if a test fails.
#
#	scripts/redis-matrix.sh
#	SERVERS="$HOME/redis-8/src/redis-server" scripts/redis-matrix.sh -run TestStore
set -eu
cd "$(dirname "$0")/../redisstore"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
found= failed=0
for name in redis-server valkey-server keydb-server ${SERVERS:-}; do
	path=$(command -v "$name") || { case $name in */*) echo "$name: cannot be run" >&2; failed=1 ;; esac; continue; }
	real=$(readlink -f "$path") # valkey-server may also be there as redis-server
	case " $found " in *" $real "*) continue ;; esac
	found="$found $real"
	version=$("$path" --version)
	leave=${GOTHEUS_LEAVE_OUT:-}
	case $("$path" --tls-port 0 --no-such-option 1 2>&1 || true) in
	*no-such-option*) ;;
	*) leave="$leave redis-tls" version="$version (without TLS)" ;;
	esac
	if GOTHEUS_LEAVE_OUT=$leave GOTHEUS_REDIS_SERVER=$path go test -count=1 -timeout 30m "$@" . >"$out" 2>&1; then
		echo "passed  $path: $version"
	else
		failed=1
		echo "FAILED  $path: $version"
		grep -a -e '^ *--- FAIL' -e '^panic' "$out" | sed 's/^/        /' || true
		tail -n 50 "$out"
	fi
done
[ -n "$found" ] || { echo "there is no server: apt-get install redis-server, or give paths in SERVERS" >&2; exit 1; }
exit $failed
