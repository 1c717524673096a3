#!/bin/sh
# Runs the tests of shared memory, of crashes and of binding as arm64 programs under qemu-user, from
# Debian's package of that name. This tests what the compiler makes for arm64, its system calls and
# their structures, in several real processes. On amd64, it does not show the reordering of memory
# accesses that arm64 allows. It needs no binfmt_misc: a test program that starts itself again
# starts the script of its name that is made here.
#
#	scripts/arm64.sh         # some ten minutes on two idle processors
#	KILLS=1000 STRIDE=5 scripts/arm64.sh
#
# What needs root or a Redis server is left out, as are 32-bit programs.
set -eu
cd "$(dirname "$0")/.."
command -v qemu-aarch64 >/dev/null || { echo "qemu-aarch64 is missing: apt-get install qemu-user" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export CGO_ENABLED=0 GOTHEUS_LEAVE_OUT="root redis-server"
build() { # a name, a package, and flags
	name=$1 package=$2
	shift 2
	GOARCH=arm64 go test -c "$@" -o "$dir/$name.program" "$package"
	printf '#!/bin/sh\nexec qemu-aarch64 -0 "$0" "%s" "$@"\n' "$dir/$name.program" >"$dir/$name"
	chmod +x "$dir/$name"
}
build shm ./internal/backend/shm
build tests ./internal/tests
build crash ./internal/crashpoints
mkdir "$dir/overlay"
build instrumented ./internal/crashpoints -overlay "$(TARGET=arm64 go run scripts/crashpoints.go "$dir/overlay")"

run() { # a name, a package's directory, and flags
	name=$1 package=$2
	shift 2
	echo "== $package $*"
	(cd "$package" && "$dir/$name" -test.v -test.timeout 2h "$@" >"$dir/out" 2>&1) && ended=0 || ended=$?
	count() { grep -a -c -e "--- $1" "$dir/out" || true; }
	echo "$(count PASS) tests passed, $(count FAIL) failed, $(count SKIP) were left out"
	grep -a -E 'killed|histories with|updates acknowledged|kills' "$dir/out" || true
	[ "$ended" = 0 ] || { grep -a -B 20 -e '--- FAIL' -e '^panic' "$dir/out" | tail -n 100; failed=1; }
}
failed=0
run shm internal/backend/shm -test.skip TestCrashCampaign
run shm internal/backend/shm -test.run TestCrashCampaign -kills "${KILLS:-100}"
run tests internal/tests -test.run 'Bind|Kill|Suite' -kills "${KILLS:-100}"
export GOTHEUS_CRASH_PROGRAM="$dir/instrumented"
run crash internal/crashpoints -test.run AtEvery -stride "${STRIDE:-211}"
exit "$failed"
