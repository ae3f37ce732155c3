#!/bin/sh
# Fetch a file with aria2 and report how that went.
# Usage: fetch.sh TRACKER NAME SEEDER
tracker=$1 name=$2 seeder=$3 deadline=${DEADLINE:-100}

now() { # in hundredths of a second
  read -r up _ </proc/uptime
  echo $((${up%.*} * 100 + 1${up#*.} - 100))
}

echo '{"event": "ready"}'
began=$(now)
timeout "$deadline" aria2c --follow-torrent=mem --seed-time=0 --file-allocation=none \
  --disable-ipv6=true --enable-dht=false --bt-tracker-interval=1 \
  --max-tries=20 --retry-wait=1 --summary-interval=0 --console-log-level=warn \
  --dir=data "$tracker/$name.torrent" >&2
code=$?
took=$(($(now) - began))

case $code in
0) outcome=success reason= path='"direct"' ;;
124) outcome=timed-out reason="not all pieces in $deadline s" path=null ;;
*) outcome=failed reason="aria2 ended with code $code" path=null ;;
esac

printf '{"event": "attempt", "record": {"technique": "bittorrent", "remote": "%s", ' "$seeder"
printf '"outcome": "%s", "reason": "%s", "path": %s, "took_s": %d.%02d}}\n' \
  "$outcome" "$reason" "$path" $((took / 100)) $((took % 100))
[ $code -eq 0 ]
