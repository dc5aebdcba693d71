#!/bin/sh
# Runs the project's tests on PostgreSQL 17, in a Debian 13 (trixie) of their own:
#
#   scripts/debian13.sh root             makes the Debian once (a few minutes, some 700 MB), or says that it is there
#   scripts/debian13.sh test             the tests of the packages that touch PostgreSQL
#   scripts/debian13.sh e2e [FLAG...]    the scenarios of test/system; flags go to the test binary (-test.run REGEXP)
#   scripts/debian13.sh run COMMAND...   any command, in the checkout, as root (STANDFAST_* is handed on)
#
# It needs root, debootstrap, and once a mirror of Debian: this machine's own, or DEBIAN_MIRROR. What it made stays in
# DEBIAN13_ROOT (default /var/tmp/standfast-trixie). Test binaries are built here, by this machine's Go.
#
# Everything runs in name spaces for mounts and processes. They end with this script, however it ends, and take with
# them every mount and every process that a test left behind. The network is this machine's: loopback addresses are
# shared with whatever runs outside.
set -eu

root=${DEBIAN13_ROOT:-/var/tmp/standfast-trixie}
source=$(cd "$(dirname "$0")/.." && pwd)
packages="postgresql-17 etcd-server haproxy prometheus procps locales-all"

say() { echo "debian13: $*" >&2; }

fail() {
	say "$*"
	exit 1
}

# isolated runs a command in new name spaces of which it is process 1; when it dies the kernel ends the rest.
isolated() { unshare --mount --propagation private --pid --fork --kill-child=KILL -- "$@"; }

mirror() {
	if [ -n "${DEBIAN_MIRROR:-}" ]; then
		echo "$DEBIAN_MIRROR"
	else
		apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep '/debian/*$' | head -n 1 | grep . || echo http://deb.debian.org/debian
	fi
}

# make_root builds beside the final name and renames, so that an interrupted run leaves nothing that looks finished.
make_root() {
	[ -e "$root/usr/lib/postgresql/17/bin/postgres" ] && [ -e "$root/usr/bin/prometheus" ] && return # else none, or one of before
	command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
	from=$(mirror)
	say "making a Debian 13 with PostgreSQL 17 in $root, from $from (once)"
	rm -rf --one-file-system "$root.new"
	isolated sh "$0" -build "$root.new" "$from" || fail "making $root did not succeed; see $root.log"
	rm -rf --one-file-system "$root" # one of before, which nothing is mounted in: mounts end with their name spaces
	mv "$root.new" "$root"
}

# build runs as process 1 of its name spaces. Debian must neither start a service nor create a cluster.
build() {
	new=$1
	{
		debootstrap --variant=minbase trixie "$new" "$2"
		printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
		chmod 755 "$new/usr/sbin/policy-rc.d"
		mkdir -p "$new/etc/postgresql-common"
		echo 'create_main_cluster = false' >"$new/etc/postgresql-common/createcluster.conf"
		cp /etc/resolv.conf "$new/etc/resolv.conf"
		printf '127.0.0.1 localhost\n::1 localhost\n' >"$new/etc/hosts"
		mount -t proc proc "$new/proc"
		chroot "$new" apt-get update
		# shellcheck disable=SC2086
		DEBIAN_FRONTEND=noninteractive chroot "$new" apt-get install -y --no-install-recommends $packages
		chroot "$new" apt-get clean
	} >"$root.log" 2>&1
}

# enter runs as process 1: mounts what a process expects and the checkout, read-only, then runs the command in it.
enter() {
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount --rbind /sys "$root/sys"
	mount -t tmpfs -o mode=1777 tmp "$root/tmp"
	mount -t tmpfs -o mode=755 run "$root/run"
	mkdir -p "$root/src" "$root/run/postgresql" "$root/run/lock"
	mount --bind "$source" "$root/src"
	mount -o remount,bind,ro "$root/src"
	cd "$root"
	exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/tmp LANG=C.UTF-8 $(env | grep '^STANDFAST_' || true) \
		sh -c 'cd "/src/$0" && exec "$@"' "$@"
}

# within runs a command in a folder of the checkout, in the Debian.
within() { isolated sh "$0" -enter "$@"; }

# build_test compiles a package's tests without cgo, so that they need nothing of the Debian they run in.
build_test() {
	mkdir -p "$source/bin/debian13"
	CGO_ENABLED=0 go test -c -vet=off -tags "$2" -o "$source/bin/debian13/$(echo "$1" | tr / -).test" "$source/$1"
}

tests() {
	failed=
	for p in pgconf postgres relay router node; do
		build_test "$p" ""
		say "package $p on PostgreSQL 17"
		within "$p" "/src/bin/debian13/$p.test" -test.timeout 8m "$@" || failed="$failed $p"
	done
	[ -z "$failed" ] || fail "failed on PostgreSQL 17:$failed"
}

[ "$(id -u)" = 0 ] || fail "needs root, for a Debian of its own: sudo make ..."
verb=${1:-}
[ $# = 0 ] || shift
case $verb in
-build) build "$@" ;;
-enter) enter "$@" ;;
root)
	make_root
	say "$root: PostgreSQL $(within . /usr/lib/postgresql/17/bin/postgres --version | sed 's/.*) //')"
	;;
test)
	make_root
	tests "$@"
	;;
e2e)
	make_root
	[ -x "$source/bin/standfast" ] || fail "bin/standfast is missing: make build"
	build_test test/system e2e
	STANDFAST_RIG_BINARY=/src/bin/standfast
	export STANDFAST_RIG_BINARY
	within test/system /src/bin/debian13/test-system.test -test.timeout 20m -test.v "$@"
	;;
run)
	make_root
	within . "$@"
	;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
