#!/bin/sh
# tests/dockerd.sh start|stop|status: a Docker engine for the tests.
#
# `start` does nothing where an engine answers already.  Otherwise it starts one
# that leaves the host's networking alone (no bridge, no firewall rules, no
# forwarding) on the usual socket, so that everything finds it, and returns when
# it is ready.  `stop` ends only the one that `start` started.  Images are kept
# between runs; PEERLAB_DOCKERD moves them.
set -eu

state=${PEERLAB_DOCKERD:-/var/tmp/peerlab-dockerd}
run=/run/peerlab-dockerd
socket=/var/run/docker.sock
pid_file=$run/dockerd.pid

answers() {
  test -S $socket && docker --host unix://$socket version >/dev/null 2>&1
}

start() {
  if answers; then
    echo "a Docker engine answers on $socket" >&2
    return
  fi
  command -v dockerd >/dev/null || {
    echo "no dockerd: apt-get install docker.io" >&2
    exit 3
  }
  mkdir -p "$state" $run
  # dockerd tells its supervisor when it is ready (sd_notify(3)); this is a supervisor.
  python3 - "$run/notify" "$run/dockerd.log" dockerd \
    --host "unix://$socket" --data-root "$state" --exec-root $run/exec --pidfile $pid_file \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --userland-proxy=false <<'PYTHON'
import os, socket, subprocess, sys

notify, log, *command = sys.argv[1:]
if os.path.exists(notify):
    os.unlink(notify)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(log, "wb") as output:
    ready.bind(notify)
    ready.settimeout(180)
    engine = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, "NOTIFY_SOCKET": notify},
        start_new_session=True,
    )
    # Its end closes this pipe's only writer, so that we don't wait for the dead.
    import threading

    def bury() -> None:
        engine.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            try:
                s.sendto(b"DEAD=1", notify)
            except OSError:
                pass

    threading.Thread(target=bury, daemon=True).start()
    try:
        while True:
            said = ready.recv(4096)
            if b"READY=1" in said:
                os._exit(0)
            if b"DEAD=1" in said:
                break
    except TimeoutError:
        engine.kill()
sys.stderr.write(open(log, errors="replace").read()[-2000:])
sys.stderr.write("\ndockerd did not become ready\n")
os._exit(4)
PYTHON
  echo "a Docker engine was started on $socket" >&2
}

stop() {
  test -f $pid_file || return 0
  # Its containers first: they would outlive it.
  docker --host unix://$socket ps --all --quiet 2>/dev/null |
    xargs --no-run-if-empty docker --host unix://$socket rm --force >/dev/null 2>&1 || true
  pid=$(cat $pid_file)
  python3 - "$pid" <<'PYTHON'
import os, select, signal, sys

try:
    handle = os.pidfd_open(int(sys.argv[1]))
except ProcessLookupError:
    sys.exit()
for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        break
    if select.select([handle], [], [], seconds)[0]:
        break
PYTHON
  rm -rf $run
  echo "the Docker engine was stopped" >&2
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  status) answers && echo "answers" ;;
  *)
    echo "usage: $0 start|stop|status" >&2
    exit 2
    ;;
esac
