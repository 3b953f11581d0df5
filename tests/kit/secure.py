"""A daemon with a TLS listener, its certificates, and the authority that clients trust."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.kit.daemon import Daemon, Settings, free_port, running


@dataclass
class Secure:
    daemon: Daemon
    port: int
    authority: trustme.CA
    folder: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def trusted(self) -> Path:
        """The authority's certificate, for clients that want a file."""
        return self.folder / "authority.pem"

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def issue(self, name: str, *more: str) -> bytes:
        """A certificate where the daemon looks for it; returns its DER form."""
        issued = self.authority.issue_cert(name, *more)
        (self.folder / f"{name}.key.new").write_bytes(issued.private_key_pem.bytes())
        (self.folder / f"{name}.pem.new").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        os.rename(self.folder / f"{name}.key.new", self.folder / f"{name}.key")
        os.rename(self.folder / f"{name}.pem.new", self.folder / f"{name}.pem")
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def table(self, name: str) -> str:
        return f'[[certificates]]\ncertificate = "{self.folder}/{name}.pem"\nkey = "{self.folder}/{name}.key"\n'

    async def connect(self, name: str = "edge.test") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.client_context(), server_hostname=name)


@contextlib.asynccontextmanager
async def secured(folder: Path, settings: Settings) -> AsyncIterator[Secure]:
    """Certificates for edge.test, which is also localhost, and for other.test with all names below it."""
    port = free_port()
    made = Secure(Daemon(folder, settings), port, trustme.CA(), folder)
    made.authority.cert_pem.write_to_path(made.trusted)
    made.issue("edge.test", "localhost")
    made.issue("other.test", "*.other.test")
    settings.toml = (
        f'[limits]\nhandshake_timeout = "2s"\n[[listeners]]\naddress = "127.0.0.1:{port}"\ntls = true\n'
        + made.table("edge.test")
        + made.table("other.test")
    )
    async with running(folder, settings) as daemon:
        made.daemon = daemon
        yield made


def request(path: str, *fields: str, host: str = "edge.test", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


async def response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), fields, await reader.readexactly(int(fields.get("content-length", "0")))
