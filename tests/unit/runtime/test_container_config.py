"""What the engine is asked for, and the files beside it."""

from pathlib import Path

import pytest

from lab.errors import InputError, MissingError
from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import choose, dockerfile, images
from lab.runtime.container import Image, container_config, program_line
from lab.runtime.docker import Engine
from lab.runtime.enter import hosts
from lab.runtime.process import environment
from lab.topology.behaviour import Mount, Runtime

PATHS = LabPaths(Path("/run/lab/demo"))
IMAGE = Image("sha256:1", ("/entry",), ("default",), (("PATH", "/bin"),), "")


def test_a_container_has_no_network_and_belongs_to_its_lab():
    program = Program(
        runtime=Runtime.DOCKER,
        image="x",
        env=(("A", "1"), ("LAB_DIR", "/elsewhere")),
        memory_bytes=1 << 20,
        cpus=0.25,
        mounts=(Mount(source="/s", target="/t", read_only=True),),
    )
    config = container_config(PATHS, "alice", program, IMAGE, "/bin/busybox")
    host = config["HostConfig"]
    assert (config["Image"], config["Hostname"], config["Cmd"]) == ("sha256:1", "alice", [])
    assert config["Entrypoint"][0] == "/.lab/busybox"
    assert config["Entrypoint"][-2:] == ["/entry", "default"]
    assert config["Env"] == ["A=1", "LAB_DIR=/lab", "LAB_NAME=demo", "LAB_NODE=alice"]
    assert config["Labels"] == {
        "peerlab.lab": "demo",
        "peerlab.state": "/run/lab/demo",
        "peerlab.node": "alice",
    }
    assert host["NetworkMode"] == "none"
    assert (host["Memory"], host["NanoCpus"]) == (1 << 20, 250_000_000)
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in host["Mounts"]] == [
        ("/run/lab/demo/nodes/alice", "/lab", False),
        ("/bin/busybox", "/.lab/busybox", True),
        ("/run/lab/demo/nodes/alice/hosts", "/etc/hosts", False),
        ("/run/lab/demo/nodes/alice/resolv.conf", "/etc/resolv.conf", False),
        ("/s", "/t", True),
    ]


@pytest.mark.parametrize(
    ("entrypoint", "default", "command", "line"),
    [
        ((), ("a", "b"), (), ("a", "b")),
        ((), ("a",), ("c",), ("c",)),
        (("e",), ("a",), (), ("e", "a")),
        (("e",), ("a",), ("c", "d"), ("e", "c", "d")),
        (("e",), (), (), ("e",)),
    ],
)
def test_what_runs_is_what_docker_would_run(entrypoint, default, command, line):
    image = Image("i", entrypoint, default, (), "")
    assert program_line(image, Program(runtime=Runtime.DOCKER, command=command)) == line


def test_names_in_a_node():
    env = {
        "LAB_ADDRESSES": "45.0.0.2,45.0.0.3",
        "LAB_STUN": "45.0.0.9:3478,45.0.0.10:3478",
        "LAB_RELAY": "[2600::1]:3478",
    }
    assert hosts("alice", env).splitlines()[2:] == [
        "45.0.0.2 alice",
        "45.0.0.3 alice",
        "45.0.0.9 stun",
        "2600::1 relay",
    ]
    assert hosts("bare", {}).splitlines()[2:] == ["127.0.1.1 bare"]


def test_services_have_a_line_for_each_family():
    listed = "45.0.0.2:3478,45.0.0.3:3479,[2a00:1::2]:3478,[2a00:1::3]:3479"
    dual = {"LAB_STUN": listed, "LAB_RELAY": "45.0.0.4:3478"}
    assert hosts("a", dual).splitlines()[3:] == [
        "45.0.0.2 stun",
        "2a00:1::2 stun",
        "45.0.0.4 relay",
    ]
    # Without IPv4: what has IPv6 by that, and the rest behind the prefix.
    mapped = hosts("a", dual | {"LAB_NAT64": "64:ff9b::/96"})
    assert mapped.splitlines()[3:] == ["2a00:1::2 stun", "64:ff9b::2d00:4 relay"]


def test_the_environment_of_a_process_is_the_programs_and_the_labs(monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    program = Program(runtime=Runtime.PROCESS, env=(("LAB_STATE", "/forged"), ("PATH", "/mine")))
    env = environment(PATHS, "alice", program)
    assert env["LAB_STATE"] == "/run/lab/demo"
    assert env["PATH"] == "/mine"
    assert "SECRET" not in env


def test_no_engine_means_processes_and_says_so(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    assert Engine.connect() is None
    chosen = choose.choose("auto")
    assert (chosen.runtime, chosen.reason) == (Runtime.PROCESS, "no container engine answers")
    assert not chosen.containers
    assert choose.choose("process").runtime is Runtime.PROCESS
    with pytest.raises(MissingError, match="--runtime process"):
        choose.choose("docker")
    with pytest.raises(InputError, match="unknown runtime 'podman'"):
        choose.choose("podman")


def test_an_engine_elsewhere_is_not_one(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    assert Engine.connect() is None


def test_the_peer_images_name_follows_its_content(monkeypatch):
    name = images.peer_image()
    assert name == images.peer_image()
    monkeypatch.setattr(images, "own_files", lambda: iter([("lab/x.py", b"")]))
    assert images.peer_image() != name


def test_the_templates_render():
    peer = dockerfile.render("peer", base="peerlab/base:1").splitlines()
    assert peer[0] == "FROM peerlab/base:1"
    base = dockerfile.render("base", upstream="python:3.12-slim", python="3.12").splitlines()
    assert base[0] == "FROM python:3.12-slim"
    assert 'peerlab.python="3.12"' in base[1]
