#!/bin/sh
# check.sh is the quick loop: gofmt, vet, go fix, shell scripts, the house rules, and the tests beside the code that need
# neither root nor containers.
set -eu
cd "$(dirname "$0")/.."
status=0

unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "check: not formatted: $unformatted"; status=1; }
go vet ./... || status=1
fixes=$(go fix -diff ./... 2>&1) || true
[ -z "$fixes" ] || { echo "$fixes"; echo "check: go fix would change the above"; status=1; }
for script in scripts/*.sh .ci/run; do
	sh -n "$script" || status=1
done
go test -count 1 ./internal/houserules || status=1
go test $(go list . ./cmd/... ./internal/... ./scripts/... | grep -v -e /houserules -e /sandbox -e /driver/container -e /driver/gvisor) || status=1
[ "$status" = 0 ] && echo "check: fine"
exit "$status"
