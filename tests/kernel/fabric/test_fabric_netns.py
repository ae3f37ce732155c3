from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import LabError, MissingError
from lab.fabric import netns
from lab.paths import NETNS_DIR

pytestmark = pytest.mark.kernel

CURRENT = Path("/proc/thread-self/ns/net")


@pytest.fixture
def path() -> Iterator[Path]:
    path = NETNS_DIR / f"t-netns-{secrets.token_hex(3)}.a"
    yield path
    netns.delete(path)


def test_a_namespace_is_one_that_ip_netns_knows(path):
    netns.create(path)
    command = ("ip", "netns", "exec", path.name, "ping", "-c1", "-W30", "127.0.0.1")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    names = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, check=True)
    assert path.name in names.stdout.split()


def test_a_namespace_that_ip_netns_made_is_entered_and_removed(path):
    subprocess.run(("ip", "netns", "add", path.name), check=True)
    with netns.inside(path):
        assert CURRENT.stat().st_ino == path.stat().st_ino
    netns.delete(path)
    assert not path.exists()


def test_the_folder_is_shared_as_iproute2_has_it(path):
    netns.create(path)
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    (folder,) = (line for line in lines if line.split()[4] == str(NETNS_DIR))
    assert "shared:" in folder


def test_the_thread_is_back_where_it_was(path):
    home = CURRENT.readlink()
    netns.create(path)
    assert CURRENT.readlink() == home

    def fail_inside() -> None:
        with netns.inside(path):
            assert CURRENT.readlink() != home
            raise ValueError

    with pytest.raises(ValueError):
        fail_inside()
    assert CURRENT.readlink() == home


def test_a_scratch_namespace_is_left_also_where_something_fails():
    outside = CURRENT.readlink()
    with netns.scratch():
        assert CURRENT.readlink() != outside
    assert CURRENT.readlink() == outside
    with pytest.raises(FileNotFoundError), netns.scratch():
        Path("no such file").read_text()
    assert CURRENT.readlink() == outside


def test_other_threads_stay_where_they_are(path):
    netns.create(path)
    home = CURRENT.readlink()
    entered, seen = threading.Event(), threading.Event()

    def visit() -> None:
        with netns.inside(path):
            entered.set()
            seen.wait(30)

    thread = threading.Thread(target=visit)
    thread.start()
    assert entered.wait(30)
    assert CURRENT.readlink() == home
    seen.set()
    thread.join()


def test_a_name_that_is_taken_is_left_alone(path):
    subprocess.run(("ip", "netns", "add", path.name), check=True)
    identity = path.stat().st_ino
    with pytest.raises(LabError, match="exists already and is not this lab's"):
        netns.create(path)
    with pytest.raises(LabError, match="exists already and is not this lab's"):
        netns.adopt(path, os.getpid())
    assert path.stat().st_ino == identity


def test_deleting_is_idempotent_and_takes_what_is_half_made(path):
    netns.create(path)
    netns.delete(path)
    netns.delete(path)
    path.touch()
    netns.delete(path)
    assert not path.exists()


def test_the_namespace_of_a_process_is_adopted(path):
    script = ("unshare", "--net", "sh", "-c", "echo ready; exec cat")
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        netns.adopt(path, process.pid)
        assert path.stat().st_ino == Path(f"/proc/{process.pid}/ns/net").stat().st_ino
        with netns.inside(path):
            link = subprocess.run(("ip", "link", "show", "lo"), capture_output=True, check=True)
        assert b"LOOPBACK,UP" in link.stdout


def test_a_process_that_is_gone_is_not_adopted(path):
    process = subprocess.Popen(("true",))
    process.wait()
    with pytest.raises(LabError, match="is gone"):
        netns.adopt(path, process.pid)
    assert not path.exists()


def test_entering_what_is_not_there_says_so(path):
    with pytest.raises(LabError, match=f"there is no network namespace {path.name}"):
        netns.inside(path).__enter__()


def in_child(step) -> str:
    """The error that `step` ends with in a forked process, which it may ruin."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            step()
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read()


def test_without_the_privilege_it_says_what_to_do(path):
    def unprivileged() -> None:
        os.setuid(65534)
        netns.create(path)

    answer = in_child(unprivileged)
    assert answer.startswith(MissingError.__name__)
    assert "run as root" in answer
    assert not path.exists()


def test_too_many_open_files_is_an_error_with_a_remedy(path):
    import resource  # noqa: PLC0415 - for this test alone

    def starved() -> None:
        used = os.open("/", os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, used + 1))
        netns.create(path)

    assert "ulimit -n" in in_child(starved)
    assert not path.exists()


def test_the_kernels_limit_of_namespaces_is_an_error_with_a_remedy(path):
    clone_newuser = 0x10000000

    def limited() -> None:
        assert ctypes.CDLL(None).unshare(clone_newuser) == 0
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        for kind in ("uid", "gid"):
            Path(f"/proc/self/{kind}_map").write_text("0 0 1", encoding="ascii")
        Path("/proc/sys/user/max_net_namespaces").write_text("0", encoding="ascii")
        netns.create(path)

    netns.create(path)  # Prepares the folder, which the child may not.
    netns.delete(path)
    assert "sysctl -w user.max_net_namespaces" in in_child(limited)
    assert not path.exists()
