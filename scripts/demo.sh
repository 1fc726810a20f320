#!/bin/sh
# demo.sh shows real functions going through real pools: it builds Kiln, starts it in the background with its data in
# .kiln/demo, deploys the examples, and shows for each request the path it took to its container. It leaves Kiln running
# and says how to use and stop it. It may be run again at any time.
set -eu
cd "$(dirname "$0")/.."

data=$PWD/.kiln/demo
out=.kiln/demo.out
log=.kiln/demo.log
ready_within=180 # seconds
# What takes minutes and hours otherwise takes seconds here, so that it is seen.
# Nothing is paused: on cgroup v1 a frozen process takes no signal, and who ends the demo together with all of its process
# namespace, and not by make stop, would wait for it for ever.
short="--retention.container 6s --retention.instance 10s --pause.after 0s --warming.release 8s --consolidation.after 4s
--fleet.window 20s --fleet.enter 60 --fleet.leave 20"

title() {
	if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}
fail() {
	echo "demo: $*" >&2
	exit 1
}

start() {
	listen=127.0.0.1:${KILN_DEMO_PORT:-4566}
	if curl -s -o /dev/null --max-time 2 "http://$listen/"; then
		echo "demo: $listen is taken; Kiln takes a free port instead"
		listen=127.0.0.1:0
	fi
	mkdir -p "$data"
	: >"$out"
	setsid nohup bin/kiln serve --data "$data" --listen "$listen" $short >"$out" 2>"$log" </dev/null &
	pid=$!
	# With its start time, so that make stop never ends another process that was given the same id.
	echo "$pid $(awk '{print $22}' "/proc/$pid/stat")" >.kiln/demo.pid
	waited=0
	until grep -q '^kiln: ready ' "$out"; do
		if ! kill -0 "$pid" 2>/dev/null; then
			tail -20 "$log" >&2
			rm -f .kiln/demo.pid
			fail "Kiln did not start; the lines above are the end of $log"
		fi
		if [ "$waited" -ge $((ready_within * 10)) ]; then
			tail -20 "$log" >&2
			fail "Kiln was not ready within $ready_within s; the lines above are the end of $log"
		fi
		waited=$((waited + 1))
		sleep 0.1
	done
	grep '^kiln: ready ' "$out"
}

deploy() { # deploy NAME PATH [FLAGS]
	name=$1
	code=$2
	shift 2
	bin/kiln deploy "$code" --name "$name" "$@" >/dev/null || fail "deploying $name failed"
}

row() { printf '%-16s %-6s %-17s %-20s %-20s %9s  %s\n' "$@"; }

call() { # call NAME EVENT [kiln]: one request by curl, or by the kiln command; prints a row and sets container, request
	if [ "${3:-curl}" = kiln ]; then
		bin/kiln invoke "$1" -d "$2" -v >.kiln/answer 2>.kiln/headers || fail "calling $1 failed: $(cat .kiln/headers)"
		field() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" .kiln/headers; }
		took=$(field took)
		took=${took%ms}
		path=$(field path) instance=$(field instance) container=$(field container) request=$(field request)
	else
		took=$(curl -sS -o .kiln/answer -D .kiln/headers -w '%{time_total}' --max-time 60 \
			--aws-sigv4 "aws:amz:$AWS_REGION:lambda" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
			-H 'Content-Type: application/json' --data-raw "$2" "$AWS_ENDPOINT_URL/2015-03-31/functions/$1/invocations") || fail "calling $1 failed"
		grep -q '^HTTP/1.1 200' .kiln/headers || fail "calling $1 failed: $(cat .kiln/headers .kiln/answer)"
		took=$(awk "BEGIN { printf \"%.2f\", $took * 1000 }")
		field() { tr -d '\r' <.kiln/headers | awk -F': ' -v h="$1" 'tolower($1) == h { print $2 }'; }
		path=$(field x-kiln-acquisition-path) instance=$(field x-kiln-instance) container=$(field x-kiln-container)
		request=$(field x-amzn-requestid)
	fi
	row "$1" "${3:-curl}" "$path" "$instance" "$container" "$took ms" "$(cut -c1-60 .kiln/answer)"
}

signed_get() { # signed_get PATH: a call of Kiln's own API
	curl -sS --max-time 10 --aws-sigv4 "aws:amz:$AWS_REGION:kiln" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$AWS_ENDPOINT_URL$1"
}

scripts/setup.sh
mkdir -p .kiln/examples

title "Building"
make -s build
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o .kiln/tide ./scripts/tide
for example in go loop; do
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ".kiln/examples/$example" "./examples/$example"
done
bin/kiln version

title "Starting"
scripts/stop.sh >/dev/null
start
eval "$(bin/kiln env --data "$data")"

title "Deploying"
deploy hello-python examples/python
deploy words examples/words
deploy hello-node examples/node
deploy hello-go .kiln/examples/go
deploy hello-loop .kiln/examples/loop
deploy pulse examples/pulse --handler app.handler --memory 512

title "Calling: the path each request took to its container"
row FUNCTION BY PATH INSTANCE CONTAINER TOOK ANSWER
event='{"name": "Ada"}'
for function in hello-python hello-node hello-go hello-loop; do
	call "$function" "$event" kiln
	for _ in 1 2 3; do call "$function" "$event"; done
done

title "The rungs between: another function of the same account, then the first without its container"
row FUNCTION BY PATH INSTANCE CONTAINER TOOK ANSWER
call words '{"text": "to be or not to be"}'
call hello-python "$event"
bin/kiln rm "$container" 2>/dev/null || fail "removing the container $container failed"
call hello-python "$event"

title "Instances"
bin/kiln ls instances

title "The record of the last execution"
signed_get "/kiln/v1/executions/$request" | python3 -m json.tool

title "The log of hello-python"
bin/kiln logs hello-python | tail -8

title "A minute in which load rises and falls, and the pools follow"
(
	sleep 26
	bin/kiln top --once
) >.kiln/top 2>&1 &
top=$!
.kiln/tide -function pulse || fail "calling pulse failed"
wait "$top" # and not for the server

title "What kiln top showed at the height; without --once it goes on"
cat .kiln/top

title "Kiln is running. Use it from any shell:"
cat <<TEXT
  eval "\$(bin/kiln env --data .kiln/demo)"           # the endpoint and a key, for AWS's tools and for kiln
  bin/kiln invoke hello-python -d '{"name": "you"}'
  bin/kiln run examples/python -d '{}'                # code that is never registered
  aws --endpoint-url \$AWS_ENDPOINT_URL lambda list-functions
  make stop                                           # ends it
The server's log is in $log. It lets go of what is idle after seconds; bin/kiln serve by itself takes minutes.
TEXT
