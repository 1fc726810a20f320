#!/bin/sh
# setup.sh [test] installs with apt-get what Kiln needs and this machine lacks: for running functions, and with "test"
# also what the tests use. Does nothing, and asks for nothing, when all of it is there.
set -eu

missing=""
need_command() { # need_command COMMAND PACKAGE: unless there is such a command for every user
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

if [ "$(uname -s)" != Linux ]; then
	echo "setup: this is no Linux; Kiln runs here with --driver process only, and needs python3 and node on the PATH" >&2
	exit 0
fi

need_command crun crun
need_command python3 python3
need_command node nodejs
need_command curl curl
need_command git git
need_command ip iproute2
need_command mkfs.ext4 e2fsprogs
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
if [ "${1:-}" = test ]; then
	need_command aws awscli
	/usr/bin/python3 -c 'import boto3' >/dev/null 2>&1 || missing="$missing python3-boto3"
fi

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup: missing:$missing. There is no apt-get here: install them by hand and try again." >&2
	exit 1
fi
as_root=""
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "setup: missing:$missing. Run as root: apt-get install --no-install-recommends$missing" >&2
		exit 1
	fi
	as_root="sudo"
fi

echo "setup: installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
attempt=1
# Three attempts: a mirror that is being updated or a lock held by another apt-get is over in seconds.
until {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 update -qq &&
		$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends $missing
} >"$log" 2>&1; do
	if [ "$attempt" -ge 3 ]; then
		tail -15 "$log" >&2
		echo "setup: apt-get failed $attempt times; the lines above are its last" >&2
		exit 1
	fi
	attempt=$((attempt + 1))
	sleep 3
done
