#!/bin/sh
# stop.sh ends the Kiln that demo.sh left running, in order: TERM, then waiting for it, KILL only after a minute.
set -eu
cd "$(dirname "$0")/.."
pidfile=.kiln/demo.pid

[ -e "$pidfile" ] || { echo "stop: no demo is running"; exit 0; }
read -r pid started <"$pidfile"

# The process is ours only if it still has the start time noted with its id: ids are used again.
ours() { [ "$(awk '{print $22}' "/proc/$pid/stat" 2>/dev/null)" = "$started" ]; }

if ours; then
	kill -TERM "$pid"
	waited=0
	while ours && [ "$(awk '{print $3}' "/proc/$pid/stat" 2>/dev/null)" != Z ]; do
		if [ "$waited" -ge 600 ]; then
			echo "stop: Kiln did not end within a minute; killing it" >&2
			kill -KILL "$pid"
			break
		fi
		waited=$((waited + 1))
		sleep 0.1
	done
	echo "stop: Kiln has ended"
else
	echo "stop: no demo is running"
fi
rm -f "$pidfile"
