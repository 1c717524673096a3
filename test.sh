#!/bin/sh
# Runs all tests of all modules, with the race detector. Installs what they need and this machine lacks.
# Arguments go to every "go test".
set -eu
cd "$(dirname "$0")"

# The race detector needs a C compiler.
if ! command -v gcc >/dev/null 2>&1 && ! command -v cc >/dev/null 2>&1; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing gcc for the race detector"
		apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null
	else
		echo "the race detector needs a C compiler: apt-get install gcc libc6-dev" >&2
		exit 1
	fi
fi

# The module redisstore is tested with servers that its tests start themselves.
if ! command -v redis-server >/dev/null 2>&1; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing redis-server"
		apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null
		service redis-server stop >/dev/null 2>&1 || true
	else
		echo "the tests of module redisstore need a server: apt-get install --no-install-recommends redis-server" >&2
		exit 1
	fi
fi

# Judges of our pages: the Python client's parsers, a Prometheus server and a Pushgateway, which are not
# installed as services but only unpacked.
missing=
/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || missing="$missing python3-prometheus-client"
for server in prometheus prometheus-pushgateway; do
	command -v $server >/dev/null 2>&1 || missing="$missing $server"
done
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing$missing for the tests"
		apt-get update -qq
		case $missing in *python3*) apt-get install -y -qq --no-install-recommends python3-prometheus-client >/dev/null ;; esac
		for server in prometheus prometheus-pushgateway; do
			command -v $server >/dev/null 2>&1 && continue
			unpacked=$(mktemp -d)
			(cd "$unpacked" && apt-get download -qq $server && dpkg -x ${server}_*.deb . && install -m 755 usr/bin/$server /usr/local/bin/)
			rm -rf "$unpacked"
		done
	else
		echo "the tests need Debian's packages$missing" >&2
		exit 1
	fi
fi

# As root, the tests fill real ext4 and XFS images, and mount others.
if [ "$(id -u)" = 0 ]; then
	if ! { command -v mkfs.ext4 && command -v mkfs.xfs && command -v mkfs.btrfs && command -v mount; } >/dev/null 2>&1; then
		echo "installing e2fsprogs, xfsprogs and btrfs-progs for the tests"
		apt-get update -qq && apt-get install -y -qq --no-install-recommends e2fsprogs xfsprogs btrfs-progs mount >/dev/null
	fi
	for fs in ext4 xfs btrfs overlay; do
		grep -qw "$fs" /proc/filesystems || modprobe "$fs" 2>/dev/null || echo "this machine's kernel has no $fs: what is tested on it is left out"
	done
fi

export CGO_ENABLED=1
modules=$(go list -f '{{.Dir}}' -m) # not in a pipe, which would hide that it fails
echo "$modules" | while read -r module; do
	echo "== ${module#"$PWD"/}"
	(cd "$module" && go test -race -timeout 20m "$@" ./...) </dev/null
done
# These are not in go.work, see docs/DECISIONS.md.
for module in bench internal/judges/strict; do
	echo "== $module"
	(cd "$module" && GOWORK=off go test -race -timeout 20m "$@" ./...)
done
