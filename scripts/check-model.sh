#!/bin/sh
# Checks docs/model/standfast.pml with spin, one way each time:
#
#   scripts/check-model.sh safety           every interleaving: no assertion may fail
#   scripts/check-model.sh progress         when faults end, every run must end with a whole cluster
#   scripts/check-model.sh broken RULE      with that rule broken an assertion must fail
#
# What it built and printed stays in docs/model/build/<name>/; a failing run's steps: cd there, spin -t -p -g model.pml
set -eu

mode=$1
rule=${2:-}
name=$mode${rule:+-$rule}
model=$(cd "$(dirname "$0")/../docs/model" && pwd)
dir=$model/build/$name

spin_flags=
optimise=-O2
cc_flags='-DSAFETY'
pan_flags='-m100000'
case $name in
safety) ;;
progress | broken-NEVER_LEAVES)
	# Acceptance cycles are runs that go on for ever. NOSTUTTER: a run that has ended does not count as one.
	spin_flags=-DPROGRESS
	cc_flags=-DNOSTUTTER
	pan_flags='-a -m100000'
	;;
broken-?*)
	# Breadth first: the harm is then found by the shortest way there is.
	cc_flags='-DSAFETY -DBFS'
	pan_flags=
	optimise=-O1
	;;
*)
	echo "usage: $0 safety|progress|broken RULE" >&2
	exit 2
	;;
esac

fail() {
	echo "model: $name: $1; see $dir" >&2
	exit 1
}

rm -rf "$dir"
mkdir -p "$dir"
cp "$model/standfast.pml" "$dir/model.pml"
cd "$dir"
# The flags are lists. NOREDUCE: everything is shared, so partial order reduction finds nothing and costs time.
# shellcheck disable=SC2086
spin -a $spin_flags ${rule:+-DBREAK=$rule} model.pml >spin.out 2>&1 || fail "spin refuses the model"
# shellcheck disable=SC2086
gcc "$optimise" -w -DNOREDUCE -DMEMLIM=2500 $cc_flags -o pan pan.c 2>gcc.out || fail "gcc refuses spin's output"
# shellcheck disable=SC2086
nice ./pan $pan_flags >pan.out 2>&1 || fail "the search ended with an error"

# Anything that cut the search short would make "no errors" worthless.
if grep -qE 'search depth too small|max search|out of memory|Search not completed' pan.out && [ "$mode" != broken ]; then
	fail "the search was not exhaustive"
fi
errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out)
states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out)
seconds=$(sed -n 's/.*elapsed time \([0-9.]*\) seconds.*/\1/p' pan.out)
memory=$(sed -n 's/^ *\([0-9.]*\).*total actual memory usage.*/\1/p' pan.out)
found="$states states, $memory MB, $seconds s"

if [ "$mode" != broken ]; then
	[ "$errors" = 0 ] || fail "$(grep -m1 -E 'assertion violated|acceptance cycle' pan.out | sed 's/(.*(/(/')"
	echo "model: $name: holds in every interleaving ($found)"
	exit 0
fi
[ "$errors" = 1 ] && grep -q 'assertion violated' pan.out || fail "spin found no harm in breaking it"
steps=$(sed -n 's/.*at depth \([0-9]*\)).*/\1/p' pan.out)
echo "model: broken-$rule: harm in $steps steps ($found)"
