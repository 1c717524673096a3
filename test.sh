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

export CGO_ENABLED=1
go list -f '{{.Dir}}' -m | while read -r module; do
	echo "== ${module#"$PWD"/}"
	(cd "$module" && go test -race -timeout 10m "$@" ./...) </dev/null
done
