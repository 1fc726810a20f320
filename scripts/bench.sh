#!/bin/sh
# bench.sh measures what the README promises, as ratios within one run, and writes bench/results.json.
set -eu
cd "$(dirname "$0")/.."
mkdir -p bench
KILN_BIN=$PWD/bin/kiln
export KILN_BIN
exec go run ./test/bench -results bench/results.json "$@"
