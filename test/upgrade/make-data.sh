#!/bin/sh
# make-data.sh [KILN] makes testdata/format-N.tar.gz: a small data directory as a real server of the present format leaves it,
# with functions, versions, an alias, a second account and its key, records, events and logs. Run it once for each format,
# when the format is about to change, with the last Kiln that writes it; what is committed stays, for later Kilns to be
# tested with. The driver is process, so that it needs no root.
set -eu
cd "$(dirname "$0")"
kiln=${1:-../../bin/kiln}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
data=$work/data
mkdir "$work/first" "$work/second"
cat > "$work/first/index.py" <<'PY'
import os
def handler(event, context):
    print("said by " + context.function_version)
    return {"greeting": os.environ.get("GREETING"), "event": event, "version": context.function_version}
PY
sed 's/"greeting"/"salute"/' "$work/first/index.py" > "$work/second/index.py"

"$kiln" serve --data "$data" --listen 127.0.0.1:0 --driver process > "$work/out" 2> "$work/log" &
server=$!
until grep -q '^kiln: ready' "$work/out"; do
	kill -0 $server || { cat "$work/log" >&2; exit 1; }
	sleep 0.1
done
k() { "$kiln" --data "$data" "$@"; }

k deploy "$work/first" --name greet --env GREETING=hello --memory 256
python3 - "$data" <<'PY'
import boto3, json, sys
where = json.load(open(sys.argv[1] + "/server.json"))
key = json.load(open(sys.argv[1] + "/credentials.json"))
api = boto3.client("lambda", endpoint_url=where["endpoint"], region_name=key["region"],
                   aws_access_key_id=key["accessKeyId"], aws_secret_access_key=key["secretAccessKey"])
version = api.publish_version(FunctionName="greet", Description="the first")["Version"]
api.create_alias(FunctionName="greet", Name="live", FunctionVersion=version)
PY
k deploy "$work/second" --name greet
k deploy "$work/first" --name other
k invoke greet -d '{"n":1}'
k invoke greet:live -d '{"n":2}'
k account create > "$work/account"
(
	. "$work/account"
	"$kiln" deploy "$work/first" --name theirs
	"$kiln" invoke theirs -d '{"n":3}'
)
cp "$work/account" "$data/second-account"
kill -TERM $server
wait $server
rm -rf "$data/cache" "$data/bootstraps" "$data/processes" "$data/containers" "$data/lock"
format=$(cat "$data/format")
tar -C "$data" --sort=name --owner=0 --group=0 -czf "testdata/format-$format.tar.gz" .
ls -l "testdata/format-$format.tar.gz"
