#!/bin/sh
set -eu
cd "$(dirname "$0")"

usage() {
	cat <<'END'
Usage: ./test.sh [--no-install] [ARGUMENTS of every "go test"]

Runs all tests of all modules, with the race detector.

As root, it first installs Debian packages that tests need and the machine lacks, where there is
apt-get, after saying which and what for. With --no-install, or as another user, it installs nothing
and leaves out tests that lack something. The end of the output says which and why.

Go itself downloads modules and, with an older Go, a newer one, into its own caches.

Environment:
  GOTHEUS_LEAVE_OUT     names of what not to test and not to install, with blanks between: gcc (the
                        race detector), root, and those that "go doc ./internal/needs" lists. If it
                        is set, even to nothing, nothing else is left out: tests fail that lack it.
  GOTHEUS_REDIS_SERVER  the server that module redisstore is tested with; redis-server by default
END
}

install=yes
while [ $# -gt 0 ]; do
	case $1 in
	--no-install) install= ;;
	-h | -help | --help) usage; exit ;;
	*) break ;; # the rest is for go test
	esac
	shift
done

given=${GOTHEUS_LEAVE_OUT+yes}
export GOTHEUS_LEAVE_OUT="${GOTHEUS_LEAVE_OUT-}"
report=
say() { report="$report
left out: $1, because $2"; }
named() { case " $GOTHEUS_LEAVE_OUT " in *" $1 "*) ;; *) return 1 ;; esac }
what() { if [ "$1" = gcc ]; then echo "the race detector"; else echo "tests that need $1"; fi; }
for name in $GOTHEUS_LEAVE_OUT; do say "$(what "$name")" "GOTHEUS_LEAVE_OUT names $name"; done
leave_out() { # a name, and why
	[ -z "$given" ] || return 0
	GOTHEUS_LEAVE_OUT="$GOTHEUS_LEAVE_OUT $1"
	say "$(what "$1")" "$2"
}

# Names are those of Debian's packages.
there() {
	case $1 in
	gcc) set -- $(go env CC) ;;
	redis-server) set -- "${GOTHEUS_REDIS_SERVER:-redis-server}" ;;
	e2fsprogs) set -- mkfs.ext4 ;;
	xfsprogs) set -- mkfs.xfs ;;
	btrfs-progs) set -- mkfs.btrfs ;;
	python3-prometheus-client) /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null; return ;;
	esac
	command -v "$1" >/dev/null 2>&1
}

# As root, tests mount file systems, and run as other users and in namespaces. The race detector
# takes a C compiler, module redisstore servers that its tests start. The others judge pages.
needs="gcc redis-server python3 python3-prometheus-client prometheus prometheus-pushgateway"
if [ "$(id -u)" != 0 ]; then
	named root || leave_out root "the user is not root"
elif ! named root && ! unshare --mount true 2>/dev/null; then
	leave_out root "root may not mount file systems here"
fi
named root || needs="$needs e2fsprogs xfsprogs btrfs-progs mount"
missing=
for name in $needs; do
	named "$name" || there "$name" || missing="$missing $name"
done

# What tests need a package for.
reason() {
	case $1 in
	gcc) echo "the race detector" ;;
	redis-server) echo "a server for tests of Redis" ;;
	e2fsprogs | xfsprogs | btrfs-progs | mount) echo "files of shared memory on other file systems" ;;
	python3) echo "a reader of files of shared memory in another language" ;;
	python3-prometheus-client) echo "its parser reads pages" ;;
	prometheus) echo "it scrapes pages" ;;
	prometheus-pushgateway) echo "it is pushed to" ;;
	esac
}

if [ -n "$missing" ] && [ -n "$install" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "This installs what tests need and this machine lacks:"
	for name in $missing; do echo "  $name: $(reason "$name")"; done
	echo "./test.sh --no-install installs nothing and leaves such tests out; GOTHEUS_LEAVE_OUT names some."
	packages= programs=
	for name in $missing; do
		case $name in
		gcc) packages="$packages gcc libc6-dev" ;;
		prometheus | prometheus-pushgateway) programs="$programs $name" ;; # not as services
		*) packages="$packages $name" ;;
		esac
	done
	[ -z "$packages" ] || echo "installing Debian's packages$packages, with what they depend on"
	[ -z "$programs" ] || echo "installing the programs of Debian's packages$programs in /usr/local/bin, not as services"
	apt-get update -qq
	# shellcheck disable=SC2086 # these are lists
	[ -z "$packages" ] || apt-get install -y -qq --no-install-recommends $packages >/dev/null
	case $packages in *redis-server*) service redis-server stop >/dev/null 2>&1 || true ;; esac
	for name in $programs; do
		unpacked=$(mktemp -d)
		(cd "$unpacked" && apt-get download -qq "$name" && dpkg -x "${name}"_*.deb . && install -m 755 "usr/bin/$name" /usr/local/bin/)
		rm -rf "$unpacked"
	done
fi
for name in $missing; do
	there "$name" || leave_out "$name" "$name is not installed"
done
if ! named root; then
	for fs in ext4 xfs btrfs overlay; do # a kernel is not installed, so they are left out in CI, too
		named "$fs" || grep -qw "$fs" /proc/filesystems || modprobe "$fs" 2>/dev/null || {
			GOTHEUS_LEAVE_OUT="$GOTHEUS_LEAVE_OUT $fs"
			say "$(what "$fs")" "this machine's kernel has none"
		}
	done
fi
race=-race CGO_ENABLED=1
if named gcc; then race= CGO_ENABLED=0; fi # the tests run without
export CGO_ENABLED

failed=
run() { # go test in a module, with arguments
	module=$1
	shift
	echo "== $module"
	(cd "$module" && go test $race -timeout 20m "$@" ./...) </dev/null || failed="$failed $module"
}
modules=$(go list -f '{{.Dir}}' -m) # not in a pipe, which would hide that it fails
while read -r dir; do
	case $dir in "$PWD") run . "$@" ;; *) run "${dir#"$PWD"/}" "$@" ;; esac
done <<END
$modules
END
export GOWORK=off # these are not in go.work, see docs/DECISIONS.md
for module in bench internal/judges/strict; do run "$module" "$@"; done

[ -z "$report" ] || echo "$report"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
