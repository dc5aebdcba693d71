#!/bin/sh
# After an installation or an upgrade. dpkg says "configure" and which version was there before, rpm how many there are now.
#
# PostgreSQL is never restarted from here, and no role changes hands: the agent alone is started again, in place, and takes over
# the PostgreSQL that has run on meanwhile. Nothing is enabled: a host has no member before /etc/standfast says which.
set -e

case "$1" in
configure) before=$2 ;;
1) before= ;;
[2-9]*) before=another ;;
*) exit 0 ;; # a removal or an upgrade that was given up: nothing has changed
esac

# Whom the services run as, made as PostgreSQL's own packages make it. A witness has no PostgreSQL.
if ! getent passwd postgres >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/postgresql --shell /bin/bash postgres
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	udevadm control --reload 2>/dev/null || :
	udevadm trigger --subsystem-match=watchdog 2>/dev/null || :
	if [ -n "$before" ] && ! systemctl try-restart standfast.service; then
		echo "standfast: the agent does not start; PostgreSQL is ended by its guard unless it soon does. See: journalctl -u standfast" >&2
	fi
fi
