# What can be done with this repository. All of it is for sh and a Go of 1.21 or newer, which fetches the toolchain that
# go.mod names by itself; what else is missing scripts/setup.sh installs.

# The version is what the build notes of the commit; without a readable repository there is none to note.
VCS := $(shell git status >/dev/null 2>&1 && echo true || echo false)

.PHONY: build runsc demo stop test test-long check bench clean

build: ## bin/kiln, one static binary
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=$(VCS) -ldflags '-s -w' -o bin/ ./cmd/...

runsc: bin/runsc ## bin/runsc, gVisor built from its module, for the driver gvisor
bin/runsc: build/runsc/main.go build/runsc/go.mod
	@mkdir -p bin
	cd build/runsc && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o ../../bin/runsc .

demo: ## real functions through real pools; leaves Kiln running
	@scripts/demo.sh

stop: ## ends the Kiln that make demo left running
	@scripts/stop.sh

test: ## the required lanes; a skip in one of them is a failure
	@scripts/setup.sh test
	@scripts/test.sh required

test-long: ## the rest
	@scripts/setup.sh test
	@scripts/test.sh long

check: ## the quick loop: form, the house rules, the tests that need no containers
	@scripts/check.sh

bench: build ## prints a table and writes bench/results.json
	@scripts/setup.sh test
	@scripts/bench.sh

clean: stop ## removes what was built and the demo's data
	rm -rf bin .kiln
