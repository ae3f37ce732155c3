"""Hosts on one Ethernet segment, made with `ip` alone, and foreign programs on it.

What is tested with it is the peer, so its network is made by other means than
lab's own: a fault that both share would be seen by neither.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.kernel.peer.wild import run
from tests.unit.peer.support import Program

WAIT_S = 30.0
_BUS = """<busconfig>
  <type>system</type>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_type="*"/><allow receive_type="*"/><allow eavesdrop="true"/>
  </policy>
</busconfig>
"""
_AVAHI = """[server]
host-name={name}
use-ipv6={six}
allow-interfaces=eth0
enable-dbus=yes
[publish]
publish-workstation=no
publish-hinfo=no
[rlimits]
"""


class Heard:
    """The lines that a program writes, waited for."""

    def __init__(self, *command: str, **more: object):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, **pipes, **more)
        self.text = ""

    def until(self, pattern: str) -> re.Match[str]:
        """The first place in all that it wrote that is like `pattern`."""
        deadline = time.monotonic() + WAIT_S
        stream = self.process.stdout.fileno()
        while not (found := re.search(pattern, self.text, re.MULTILINE)):
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(stream, 65536) if ready else b""
            assert data, f"no {pattern!r} in:\n{self.text}"
            self.text += data.decode(errors="replace")
        return found

    def stop(self) -> None:
        """End it; what it still had to say is in `text`."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            rest, _ = self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            rest, _ = self.process.communicate(timeout=10)
        self.text += rest.decode(errors="replace")


class Segment:
    """Namespaces on a bridge; a context manager that removes them and what runs in them."""

    def __init__(self, *hosts: str):
        self.prefix = f"t-seg-{secrets.token_hex(3)}"
        self._hosts = hosts
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def space(self, host: str) -> str:
        return f"{self.prefix}.{host}"

    def inside(self, host: str, *command: str) -> tuple[str, ...]:
        """`command` as it is called from outside."""
        return ("ip", "netns", "exec", self.space(host), *command)

    def peer(self, folder: Path, host: str, address: str = "", **env: str) -> Program:
        """A peer on `host`, stopped at the end; `wait` as in `Program`."""
        program = Program(folder, host, "peer", address, prefix=self.inside(host), **env)
        self._stack.callback(program.stop)
        return program

    def listen(self, *filter_: str, at: str = "br0") -> Heard:
        """Packets on the segment as tcpdump writes them, from now on."""
        # Without reverse look-ups, with Ethernet addresses, a packet at a time.
        command = ("tcpdump", "-l", "-n", "-e", "--immediate-mode", "-i", at, *filter_)
        heard = self.start("switch", *command)
        heard.until(r"^listening on")
        return heard

    def start(self, host: str, *command: str, **more: object) -> Heard:
        """A program on `host`, ended at the end."""
        heard = Heard(*self.inside(host, *command), **more)
        self._stack.callback(heard.stop)
        return heard

    def avahi(self, folder: Path, host: str, name: str, *, six: bool = False) -> Avahi:
        """avahi-daemon on `host`, as the owner of `name`, with a message bus of its own.

        `six`: whether it speaks over IPv6 as well.
        """
        return Avahi(self, folder, host, name, six=six)

    def _build(self) -> None:
        for space in map(self.space, ("switch", *self._hosts)):
            run(f"ip netns add {space}")
            self._stack.callback(_forget, space)
            run(f"ip -n {space} link set lo up")
        switch = self.space("switch")
        run(f"ip -n {switch} link add br0 type bridge mcast_snooping 0")
        run(f"ip -n {switch} link set br0 up")
        for host in self._hosts:
            space = self.space(host)
            run(f"ip -n {switch} link add {host} type veth peer name eth0 netns {space}")
            run(f"ip -n {switch} link set {host} master br0 up")
            run(f"ip -n {space} link set eth0 up")

    def address(self, host: str, address: str) -> None:
        """Give `host` an address, and the multicast route that resolvers want."""
        if ":" in address:
            run(f"ip -n {self.space(host)} address add {address} dev eth0 nodad")
            return
        run(f"ip -n {self.space(host)} address add {address} dev eth0")
        run(f"ip -n {self.space(host)} route add 224.0.0.0/4 dev eth0")


class Avahi:
    """See `Segment.avahi`."""

    def __init__(self, segment: Segment, folder: Path, host: str, name: str, *, six: bool):
        self._segment, self._host = segment, host
        folder = folder / f"avahi-{host}"
        folder.mkdir()
        (folder / "bus.conf").write_text(_BUS.format(folder=folder))
        (folder / "avahi.conf").write_text(_AVAHI.format(name=name, six="yes" if six else "no"))
        self._environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={folder}/bus"}
        bus = f"--config-file={folder}/bus.conf"
        self._bus = segment.start(host, "dbus-daemon", bus, "--nofork", "--print-address=1")
        self._bus.until(r"unix:path")
        # With a /run of its own: another one may run on this machine.
        daemon = f"avahi-daemon -f {folder}/avahi.conf --no-drop-root --no-chroot --no-rlimits"
        own = f"mount -t tmpfs none /run && mkdir /run/avahi-daemon && exec {daemon}"
        command = ("unshare", "-m", "sh", "-c", own)
        self.daemon = segment.start(host, *command, env=self._environment)

    def name(self) -> str:
        """What it is called once it is settled."""
        return self.daemon.until(r"Server startup complete. Host name is (\S+?)\. ")[1]

    def resolve(self, name: str, family: int = 4) -> str:
        """The address that avahi-resolve finds for a name; AssertionError if none."""
        return self._ask("avahi-resolve", f"-{family}", "-n", name).split()[1]

    def browse(self, service: str) -> dict[str, list[str]]:
        """What avahi-browse finds of a service, by name: host, address, port and TXT."""
        found = self._ask("avahi-browse", "-rpt", service)
        resolved = [line.split(";") for line in found.splitlines() if line.startswith("=")]
        return {fields[3]: fields[6:] for fields in resolved}

    def _ask(self, *words: str) -> str:
        command = self._segment.inside(self._host, *words)
        more = {"env": self._environment, "capture_output": True, "text": True, "timeout": 30}
        done = subprocess.run(command, check=False, **more)
        assert done.stdout, done.stderr
        return done.stdout


def _forget(space: str) -> None:
    with contextlib.suppress(AssertionError):
        run(f"ip netns del {space}")
