"""The Docker engine of this machine, as few calls as lab needs.

`Engine` is synchronous and may be used from several threads; the life of a
lab's containers is in `lab.runtime.containers`.  The docker SDK takes 100 ms to
import, so only a connection imports it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lab.errors import LabError, MissingError
from lab.paths import LabPaths

if TYPE_CHECKING:
    from docker import APIClient
from lab.runtime.complaints import explained
from lab.runtime.container import LABEL_LAB, LABEL_STATE, Image, lab_labels

_DEFAULT_SOCKET = "unix:///var/run/docker.sock"
_CONNECT_TIMEOUT_S = 2.0
_CALL_TIMEOUT_S = 120.0
_SETTLE_DEADLINE_S = 30.0


_CONFLICT = 409


class Engine:
    """A connection to a Docker engine on this machine."""

    def __init__(self, client: APIClient) -> None:
        """Use `Engine.connect`."""
        self._client = client

    @classmethod
    def connect(cls) -> Engine | None:
        """The engine that `DOCKER_HOST` names, or the usual one; None if none answers.

        Only an engine that listens on a Unix socket can be used: a container's
        network is wired through `/proc`, so both must be on this machine.
        """
        address = os.environ.get("DOCKER_HOST") or _DEFAULT_SOCKET
        if not address.startswith("unix://") or not _listens(address.removeprefix("unix://")):
            return None
        from docker import APIClient  # noqa: PLC0415 - 100 ms
        from docker.errors import DockerException  # noqa: PLC0415 - as above
        from requests.exceptions import RequestException  # noqa: PLC0415 - as above

        try:
            client = APIClient(base_url=address, version="auto", timeout=_CALL_TIMEOUT_S)
        except (DockerException, RequestException, OSError):
            return None
        return cls(client)

    @classmethod
    def demand(cls) -> Engine:
        """As `connect`, but MissingError if none answers."""
        engine = cls.connect()
        if engine is None:
            raise MissingError(
                f"no Docker engine answers on {os.environ.get('DOCKER_HOST') or _DEFAULT_SOCKET}",
                remedy="start one (systemctl start docker), or use --runtime process",
            )
        return engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def workers(self) -> int:
        """How many calls at once get the most done; more only wait for one another."""
        return max(2, min(16, 2 * (os.cpu_count() or 1)))

    @property
    def client(self) -> APIClient:
        """The SDK's low-level client, for `lab.runtime.images`."""
        return self._client

    # --- images -----------------------------------------------------------

    def image(self, name: str) -> Image:
        """The image of that name; MissingError if the engine has none."""
        from docker.errors import ImageNotFound  # noqa: PLC0415 - see connect

        try:
            with explained(f"image {name}"):
                facts = self._client.inspect_image(name)
        except ImageNotFound:
            ours = name.startswith("peerlab/")
            raise MissingError(
                f"the engine has no image {name!r}",
                remedy="build it: lab image build" if ours else f"get it: docker pull {name}",
            ) from None
        config = facts.get("Config") or {}
        return Image(
            identifier=facts["Id"],
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            env=tuple(_pairs(config.get("Env") or ())),
            user=config.get("User") or "",
        )

    def has_image(self, name: str) -> bool:
        """Whether the engine has the image."""
        try:
            self.image(name)
        except MissingError:
            return False
        return True

    def pull(self, name: str) -> None:
        """Fetch an image from its registry; LabError if that fails."""
        repository, _, tag = name.partition(":")
        with explained(f"image {name}"):
            for line in self._client.pull(
                repository, tag=tag or "latest", stream=True, decode=True
            ):
                if "error" in line:
                    raise LabError(f"image {name}: {line['error']}")

    def import_archive(self, archive: Path, name: str) -> None:
        """Make an image `name` of a root file system in a tar archive."""
        repository, _, tag = name.partition(":")
        with explained(f"image {name}"):
            self._client.import_image_from_file(str(archive), repository=repository, tag=tag)

    # --- containers -------------------------------------------------------

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container; its identifier.

        LabError if the name is taken or a mount's source is missing.
        """
        with explained(f"container {name}"):
            answer = self._client.create_container_from_config(config, name)
        identifier: str = answer["Id"]
        return identifier

    def attach(self, identifier: str) -> socket.socket:
        """The container's output, standard output and errors multiplexed.

        Before `start`, so that nothing is missed; `docker logs` has it too.
        """
        with explained(f"container {identifier}"):
            stream = self._client.attach_socket(
                identifier, params={"stream": 1, "stdout": 1, "stderr": 1}
            )
            # The SDK wraps the socket for reading; the demultiplexer wants it bare.
            with stream:
                bare: socket.socket = stream._sock.dup()  # noqa: SLF001 - the SDK offers no other way
        return bare

    def start(self, identifier: str) -> int:
        """Start the container; the process number of its first process (0 if it ended at once)."""
        with explained(f"container {identifier}"):
            self._client.start(identifier)
            pid: int = self._client.inspect_container(identifier)["State"]["Pid"]
        return pid

    def wait(self, identifier: str) -> int:
        """Wait until the container has ended; its exit code."""
        with explained(f"container {identifier}"):
            answer = self._client.wait(identifier, timeout=_CALL_TIMEOUT_S)
        return int(answer["StatusCode"])

    def out_of_memory(self, identifier: str) -> bool:
        """Whether the kernel killed something in the container for the memory that it took."""
        with explained(f"container {identifier}"):
            state = self._client.inspect_container(identifier)["State"]
        return bool(state.get("OOMKilled"))

    def stop(self, identifier: str, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s`; returns when the container has ended."""
        with explained(f"container {identifier}"):
            self._client.stop(identifier, timeout=round(grace_s))

    def pause(self, identifier: str) -> None:
        """Freeze every process of the container."""
        with explained(f"container {identifier}"):
            self._client.pause(identifier)

    def unpause(self, identifier: str) -> None:
        """Let a paused container go on."""
        with explained(f"container {identifier}"):
            self._client.unpause(identifier)

    def thaw(self, name: str, paths: LabPaths) -> None:
        """Let the container go on if it is the lab's and frozen; fine if it is not."""
        from docker.errors import APIError, NotFound  # noqa: PLC0415 - see connect

        try:
            facts = self._client.inspect_container(name)
            ours = (facts["Config"].get("Labels") or {}).get(LABEL_STATE) == str(paths.root)
            if ours and facts["State"].get("Paused"):
                self._client.unpause(name)
        except (NotFound, APIError):
            return

    def containers_of(self, paths: LabPaths) -> tuple[str, ...]:
        """The identifiers of the lab's containers, in whatever state."""
        labels = [f"{LABEL_LAB}={paths.lab}", f"{LABEL_STATE}={paths.root}"]
        with explained(f"the containers of lab {paths.lab}"):
            found = self._client.containers(all=True, filters={"label": labels})
        return tuple(container["Id"] for container in found)

    def settle(self, paths: LabPaths, name: str, image: str) -> int:
        """Make sure that an order to create container `name`, given by a dead agent, is over.

        The engine reserves a name before it does anything else, so taking the
        name proves that nobody else is about to have it.  Returns how many
        containers of the lab were removed; one of that name that is not the
        lab's is left alone.  LabError if the engine does not get done.
        """
        from docker.errors import APIError, NotFound  # noqa: PLC0415 - see connect

        removed = 0
        deadline = time.monotonic() + _SETTLE_DEADLINE_S
        # Each round waits for the engine's answer, which is all the pause that it needs.
        while time.monotonic() < deadline:
            try:
                taken = self._client.create_container_from_config(
                    {"Image": image, "Labels": lab_labels(paths), "HostConfig": {}}, name
                )
            except NotFound:
                return removed  # no such image: nothing can be made of it
            except APIError as error:
                if error.status_code != _CONFLICT:
                    raise
            else:
                self.remove_id(taken["Id"])
                return removed
            try:
                labels = self._client.inspect_container(name)["Config"].get("Labels") or {}
            except NotFound:
                continue  # reserved, and not made yet
            if labels.get(LABEL_STATE) != str(paths.root):
                return removed
            self.remove_id(name)
            removed += 1
        raise LabError(
            f"the Docker engine is still busy with container {name}",
            remedy="run `lab down` again",
        )

    def remove_id(self, identifier: str) -> None:
        """Remove the container and its anonymous volumes, whatever it does; fine if it is gone."""
        from docker.errors import APIError, NotFound  # noqa: PLC0415 - see connect

        try:
            with explained(f"container {identifier}"):
                try:
                    self._client.remove_container(identifier, force=True, v=True)
                except APIError as error:
                    if error.status_code != _CONFLICT:  # someone else is removing it
                        raise
                    self._client.wait(identifier, condition="removed", timeout=_CALL_TIMEOUT_S)
        except NotFound:
            return


def _listens(path: str) -> bool:
    """Whether someone answers on the socket; spares the import when nobody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _pairs(items: Sequence[str]) -> Iterator[tuple[str, str]]:
    for item in items:
        name, equals, value = item.partition("=")
        if equals:
            yield name, value
