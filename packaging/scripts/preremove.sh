#!/bin/sh
# Before a removal. dpkg says "remove", rpm how many will be left. An upgrade leaves everything running.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

[ -d /run/systemd/system ] || exit 0
for unit in standfast.service standfast-postgres.service; do
	if systemctl is-active --quiet "$unit"; then
		echo "standfast: $unit runs: a member of a cluster is not removed while it serves." >&2
		echo "standfast: hand its role over and stop it first: standfast node stop" >&2
		exit 1
	fi
done
systemctl --quiet disable standfast.service || :
