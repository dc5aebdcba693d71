#!/bin/sh
# After a removal, or a purge. Data, certificates and secrets are the site's: neither takes them away.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	;;
purge)
	for dir in /var/lib/standfast /etc/standfast; do
		if [ -d "$dir" ]; then echo "standfast: $dir stays; remove it if nobody needs it" >&2; fi
	done
	;;
esac
