#!/bin/sh
# Installs the distribution's packages that a make target needs, and nothing when they are there.
#
#   scripts/install-deps.sh demo     PostgreSQL's server
#   scripts/install-deps.sh test     and etcd, HAProxy, Prometheus, a C compiler (for go test -race), Chromium, and axe-core, which is not Debian's (npm)
#   scripts/install-deps.sh lab      all of test, and what boots whole machines (systemd-nspawn, debootstrap, nftables, QEMU)
#   scripts/install-deps.sh model    spin, a C compiler
#
# It asks nothing, starts no service and lets Debian create no cluster: what is installed is programs to be started by
# ourselves, on our own ports, while a machine that already runs PostgreSQL or HAProxy keeps running them as they are.
set -eu

say() { echo "install-deps: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# have_postgres looks where Debian, PGDG's RPMs and other packagers put the server, which is seldom in PATH.
have_postgres() {
	have postgres && return
	for bin in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres; do
		[ -x "$bin" ] && return
	done
	return 1
}

have_etcd() { have etcd; }
have_chromium() { have chromium || have chromium-browser || have google-chrome; }
have_cc() { have gcc && [ -e /usr/include/stdio.h ]; }

# axe-core checks accessibility in the tests of the web page; what is fetched lies where they look for it.
axe=axe-core@4.14.1
axe_file=$(dirname "$0")/../bin/axe.min.js

# missing prints the packages that the given purpose lacks, by Debian's names.
missing() {
	case $1 in demo | test | lab) have_postgres || echo postgresql ;; esac
	case $1 in test | lab)
		have_etcd || echo etcd-server
		[ -x /usr/sbin/haproxy ] || have haproxy || echo haproxy
		[ -x /usr/sbin/keepalived ] || have keepalived || echo keepalived
		[ -x /usr/sbin/pgbouncer ] || have pgbouncer || echo pgbouncer
		have promtool || echo prometheus
		have_chromium || echo chromium
		;;
	esac
	case $1 in lab)
		have systemd-nspawn || echo systemd-container
		[ -x /usr/sbin/debootstrap ] || have debootstrap || echo debootstrap
		[ -x /usr/sbin/nft ] || have nft || echo nftables
		[ "$(uname -m)" != x86_64 ] || have qemu-system-x86_64 || echo qemu-system-x86
		;;
	esac
	case $1 in model) have spin || echo spin ;; esac
	case $1 in test | lab | model) have_cc || echo gcc libc6-dev ;; esac
}

# without_services runs a command while policy-rc.d forbids every package to start its service. What was there before is
# put back whatever happens.
without_services() {
	policy=/usr/sbin/policy-rc.d
	kept=
	if [ -e "$policy" ]; then
		kept=$policy.before-standfast
		mv "$policy" "$kept"
	fi
	trap 'restore_policy' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	"$@"
	restore_policy
	trap - EXIT INT TERM HUP
}

restore_policy() {
	rm -f "$policy"
	if [ -n "$kept" ]; then mv "$kept" "$policy"; fi
}

# apt keeps quiet: its hundred lines would hide ours. When it fails, its own last words are shown.
apt() {
	log=$(mktemp)
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 && code=0 || code=$?
	[ $code -eq 0 ] || tail -n 20 "$log" >&2
	rm -f "$log"
	return $code
}

# no_main_cluster stops Debian from creating (and starting at boot) a cluster of its own on port 5432. It is left alone
# where somebody has decided already, or has a cluster.
no_main_cluster() {
	conf=/etc/postgresql-common/createcluster.conf
	if grep -qs '^[[:space:]]*create_main_cluster' "$conf" || ls /etc/postgresql/*/*/postgresql.conf >/dev/null 2>&1; then
		return
	fi
	printf '\n# Written by standfast (scripts/install-deps.sh): it makes its own clusters.\ncreate_main_cluster = false\n' >>"$conf"
}

install_packages() {
	case " $* " in *" postgresql "*)
		apt install --no-install-recommends postgresql-common
		no_main_cluster
		;;
	esac
	apt install --no-install-recommends "$@"
}

# not_at_boot keeps services that came with the packages from starting at the next boot.
not_at_boot() {
	have systemctl || return 0
	for package; do
		case $package in
		etcd-server) systemctl disable --quiet etcd >/dev/null 2>&1 || say "etcd.service will start at boot: systemctl disable etcd" ;;
		prometheus) systemctl disable --quiet prometheus >/dev/null 2>&1 || say "prometheus.service will start at boot: systemctl disable prometheus" ;;
		haproxy) systemctl disable --quiet haproxy >/dev/null 2>&1 || say "haproxy.service will start at boot: systemctl disable haproxy" ;;
		esac
	done
}

# get_axe is no error where it can't be had: the tests say so and go on without it.
get_axe() {
	[ ! -e "$axe_file" ] || return 0
	if ! have npm; then # three hundred packages in Debian, for one file
		say "the web page's accessibility is not tested: there is no npm to get $axe by"
		return 0
	fi
	at=$(mktemp -d)
	if (cd "$at" && timeout 60 npm pack --silent "$axe" && tar -xzf axe-core-*.tgz package/axe.min.js) >"$at/log" 2>&1; then
		mkdir -p "$(dirname "$axe_file")"
		cp "$at/package/axe.min.js" "$axe_file.$$" && mv "$axe_file.$$" "$axe_file"
	else
		say "the web page's accessibility is not tested: npm did not get $axe: $(tail -n 1 "$at/log")"
	fi
	rm -rf "$at"
}

# main installs what is missing; then, as whoever called, the tests' own things are fetched.
main() {
	packages "$@"
	[ -z "${STANDFAST_DEPS:-}" ] || return 0
	case $1 in test | lab) get_axe ;; esac
}

packages() {
	purpose=${1:-}
	case $purpose in demo | test | lab | model) ;; *)
		say "usage: $0 demo|test|lab|model"
		exit 2
		;;
	esac
	# Word splitting is meant: package names hold no blanks.
	# shellcheck disable=SC2046
	set -- $(missing "$purpose")
	[ $# -gt 0 ] || return 0

	if ! have apt-get; then
		say "missing here (by Debian's package names): $*; only apt is known to this script, so install them by hand and run make again"
		exit 1
	fi
	if [ "$(id -u)" -ne 0 ]; then
		# Without a terminal sudo must not ask for a password that nobody can type.
		ask=-n
		if [ -t 0 ]; then ask=; fi
		# shellcheck disable=SC2086
		if ! have sudo || ! sudo $ask true; then
			say "missing: $*; as root run: apt-get install --no-install-recommends $*"
			exit 1
		fi
		# shellcheck disable=SC2086
		sudo $ask env STANDFAST_DEPS=packages sh "$0" "$purpose"
		return
	fi
	say "installing $* (about a minute)"
	apt update || say "apt-get update did not succeed; going on with the package lists that are here"
	without_services install_packages "$@"
	not_at_boot "$@"
	set -- $(missing "$purpose")
	if [ $# -gt 0 ]; then
		say "still missing after the installation: $*"
		exit 1
	fi
}

main "$@"
