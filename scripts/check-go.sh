#!/bin/sh
# Says in one line when Go is missing or older than the module needs, before the compiler says it in fifty.
# Usage: scripts/check-go.sh [minor release needed, default 26 for Go 1.26]
set -eu

need=${1:-26}
where='install it from https://go.dev/dl/ and put its bin directory first in PATH'

if ! command -v go >/dev/null 2>&1; then
	echo "standfast needs Go 1.$need or later and there is no \"go\" in PATH: $where" >&2
	exit 1
fi
# GOTOOLCHAIN=local: what is installed, not what an older go would first download (hosts may have no way out).
found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || found=unknown
minor=$(printf '%s\n' "$found" | sed -n 's/.*go1\.\([0-9][0-9]*\).*/\1/p')
if [ "${minor:-0}" -lt "$need" ]; then
	echo "standfast needs Go 1.$need or later, $(command -v go) is ${found:-too old to say}: $where" >&2
	exit 1
fi
