"""What the service manager is told, and the sockets the supervisor makes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.run.notify import notify
from edge.run.sockets import listening
from tests.kit.daemon import free_port


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@edge-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        service_manager.bind("\0" + name[1:] if abstract else name)
        service_manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify(READY=1, STATUS="serving with 2 workers")
        notify(STOPPING=1)
        assert service_manager.recv(1000) == b"READY=1\nSTATUS=serving with 2 workers"
        assert service_manager.recv(1000) == b"STOPPING=1"


def test_nobody_asked_or_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY=1)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    notify(READY=1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "[::1]"])
def test_listening(host: str) -> None:
    port = free_port()
    try:
        sock = listening(f"{host}:{port}", 7, share=False)
    except ConfigError as error:
        if host == "[::1]" and "assign" in str(error):
            pytest.skip("no IPv6 here")
        raise
    with sock, socket.create_connection((host.strip("[]") or "127.0.0.1", port)) as client:
        server, _ = sock.accept()
        server.close()
        assert client.recv(1) == b""
        assert not os.get_inheritable(sock.fileno())


def test_sharing_an_address_is_asked_for_by_both() -> None:
    address = f"127.0.0.1:{free_port()}"
    refused = pytest.raises(ConfigError, match=f"cannot listen on {address}: Address already in use")
    with listening(address, 1, share=True), listening(address, 1, share=True), refused:
        listening(address, 1, share=False)


@pytest.mark.parametrize("address", ["192.0.2.1:80", "no.such.host.invalid:80"])
def test_an_address_that_cannot_be_had(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        listening(address, 1, share=False)
