#!/bin/sh
# Seed a file with Transmission, which asks the router for a port by UPnP.
# Usage: seed.sh TRACKER NAME
set -eu
tracker=$1 name=$2

mkdir -p data config
head -c 1000000 /dev/urandom >"data/$name"
transmission-create -t "$tracker/announce" -o "$name.torrent" "data/$name" >/dev/null
# Everything starts at once, so the tracker may be the last.
curl -fsS --retry 20 --retry-delay 1 --retry-connrefused -T "$name.torrent" "$tracker/$name.torrent"

# No DHT: its first nodes are on an internet that this one has no way to.
echo '{"dht-enabled": false, "lpd-enabled": false, "utp-enabled": false}' >config/settings.json
echo '{"event": "ready"}'
exec transmission-cli --portmap --port 51413 --config-dir config --download-dir data "$name.torrent" >progress.txt
