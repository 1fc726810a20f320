#!/bin/sh
# test.sh required|long runs a set of tests and ends with one line: N passed, N failed, N skipped.
#
# required: every package, every driver that this project promises; a skip is a failure.
# long: the same under the race detector, and the tests with the build tag "long"; and all of it builds where there is no
# Linux.
set -eu
cd "$(dirname "$0")/.."

make -s build runsc
KILN_BIN=$PWD/bin/kiln
KILN_REQUIRE_CONTAINER=1
KILN_REQUIRE_GVISOR=1
KILN_REQUIRE_CONFORMANCE=1
export KILN_BIN KILN_REQUIRE_CONTAINER KILN_REQUIRE_GVISOR KILN_REQUIRE_CONFORMANCE
unset KILN_SIM_SEEDS # whoever has it set for a quick look must not thin the lane

lane=${1:-required}
set --
case $lane in
required) limit=28m ;;
long)
	limit=120m
	set -- -race -tags long
	GOOS=darwin go vet ./...
	;;
*)
	echo "test: say required or long" >&2
	exit 2
	;;
esac

mkdir -p .kiln
go build -o .kiln/testsum ./scripts/testsum
# The status of go test is in what it writes: testsum fails on it, and runs a few failed tests once more, each alone. Making
# AWS's wire again from AWS's model is shown where the model is at hand, and the figures of the public traces where those are.
# Packages run two at a time on two processors, in the order named: the one that takes longest, and mostly waits, begins.
go test -json -count 1 -timeout "$limit" "$@" ./test/rows ./... 2>&1 |
	.kiln/testsum -may-skip '^kiln/(internal/(lambdaapi|sim|train)|test/simulation)$' go test -json -count 1 -timeout 10m "$@"
