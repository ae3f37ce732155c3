#!/bin/sh
# A peer in a few lines of shell: it listens on TCP port 9000, calls whom it is
# told to, and speaks the contract.  Usage: peer.sh [NAME=ADDRESS ...]
# All that it needs is busybox.

now() { # in hundredths of a second
  read -r up _ </proc/uptime
  echo $((${up%.*} * 100 + 1${up#*.} - 100))
}

busybox nc -ll -p 9000 -e busybox hostname &
echo '{"event": "ready"}'

for peer; do
  name=${peer%%=*} address=${peer#*=} began=$(now)
  # Everything starts at once: only who refuses for two seconds refuses.
  while
    answer=$(busybox nc -w 3 "$address" 9000 2>&1 </dev/null)
    took=$(($(now) - began))
    case $answer in *refused*) [ $took -lt 200 ] ;; *) false ;; esac
  do busybox sleep 0.1; done

  path=null time=null
  case $answer in
  "$name")
    outcome=success path='"direct"' reason=
    time=$(printf '%d.%02d' $((took / 100)) $((took % 100)))
    ;;
  *refused*) outcome=refused reason="nobody listens there" ;;
  *) outcome=timed-out reason="no answer in 3 s" ;;
  esac
  printf '{"event": "attempt", "record": {"technique": "shell-tcp", "remote": "%s", ' "$name"
  printf '"outcome": "%s", "reason": "%s", "path": %s, ' "$outcome" "$reason" "$path"
  printf '"transport": "tcp", "time_to_path_s": %s}}\n' "$time"
done
wait
