"""Real clients over TLS, each with a miss and a hit: curl, wget, ffmpeg and a browser, with the certificate checked."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from loadtest import ffmpeg
from loadtest.content import size_bytes
from loadtest.faults import Step
from tests.kit.daemon import Settings
from tests.kit.origin import Origin, expected, gen_path
from tests.kit.secure import Secure, request, response, secured
from tests.kit.until import landed, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = "3m"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secure(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    settings = Settings([origin.url], workers=2)
    async with secured(tmp_path_factory.mktemp("tls"), settings) as made:
        yield made


def there(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


async def output_of(*command: str, env: dict[str, str] | None = None) -> tuple[bytes, str]:
    """What a client wrote, and what it said beside that. It must end well."""
    client = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | (env or {}),
    )
    try:
        async with asyncio.timeout(60):
            out, err = await client.communicate()
    finally:
        if client.returncode is None:
            client.kill()
    said = err.decode(errors="replace")
    assert client.returncode == 0, said
    return out, said


async def miss_and_hit(secure: Secure, origin: Origin, path: str, command: Callable[[str], list[str]]) -> list[str]:
    """Fetch twice: the same right bytes, and one request at the origin. What the client said each time."""
    said = []
    for _ in range(2):
        body, err = await output_of(*command(secure.url + path))
        assert body == expected(path, 0, size_bytes(SIZE))
        said.append(err)
        await landed(secure.daemon)

    async def logged() -> bool:
        return len(cache_states(secure, path)) >= 2

    await until(logged)
    assert sorted(cache_states(secure, path)) == ["hit", "miss"]
    assert len(origin.requests_for(path)) == 1
    return said


def cache_states(secure: Secure, path: str) -> list[str]:
    return [line["outcome"] for line in secure.daemon.log_lines() if line["target"] == path]


@there("curl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl(secure: Secure, origin: Origin, version: str) -> None:
    def command(url: str) -> list[str]:
        only = [f"--tlsv{version}", "--tls-max", version]
        return ["curl", "--silent", "--show-error", "--verbose", *only, "--cacert", str(secure.trusted), url]

    said = await miss_and_hit(secure, origin, gen_path(SIZE, f"curl-{version}"), command)
    for one in said:
        assert f"SSL connection using TLSv{version}" in one
        assert "ALPN: server accepted http/1.1" in one
        assert "HTTP/1.1 200" in one
    assert re.search(r"cache-status: edge; hit;", said[1], re.IGNORECASE)


@there("curl")
@pytest.mark.parametrize("name", ["edge.test", "a.other.test"])
async def test_curl_by_name(secure: Secure, name: str) -> None:
    path = gen_path("16k", f"names-{name}")
    command = ["curl", "--silent", "--show-error", "--verbose", "--cacert", str(secure.trusted)]
    url = f"https://{name}:{secure.port}{path}"
    body, said = await output_of(*command, "--resolve", f"{name}:{secure.port}:127.0.0.1", url)
    assert body == expected(path, 0, 16 << 10)
    assert f'host "{name}" matched' in said


@there("wget")
@pytest.mark.parametrize("version", ["1_2", "1_3"])
async def test_wget(secure: Secure, origin: Origin, version: str) -> None:
    def command(url: str) -> list[str]:
        only = f"--secure-protocol=TLSv{version}"
        return ["wget", "--no-config", "--server-response", only, f"--ca-certificate={secure.trusted}", "-O", "-", url]

    said = await miss_and_hit(secure, origin, gen_path(SIZE, f"wget-{version}"), command)
    assert re.search(r"cache-status: edge; hit;", said[1], re.IGNORECASE)


async def test_ffmpeg(secure: Secure, origin: Origin) -> None:
    try:
        executable = ffmpeg.find()
    except ffmpeg.FfmpegError as error:
        pytest.skip(str(error))

    def command(url: str) -> list[str]:
        asked = [executable, "-v", "error", "-nostdin", "-tls_verify", "1", "-ca_file", str(secure.trusted)]
        return [*asked, "-f", "data", "-i", url, "-map", "0", "-c", "copy", "-f", "data", "-"]

    await miss_and_hit(secure, origin, gen_path(SIZE, "ffmpeg"), command)


PAGE = """<!doctype html><title>player</title><p id="told"></p><script type="module">
const digest = async response => Array.from(
    new Uint8Array(await crypto.subtle.digest("SHA-256", await response.arrayBuffer())),
    byte => byte.toString(16).padStart(2, "0")).join("");
const told = [];
for (const [number, range] of [null, null, "bytes=1000-200999"].entries()) {
    // another URL each time for the browser's own cache, one object for the edge
    const response = await fetch("%s?CMCD=sid%%3D" + number, {headers: range ? {Range: range} : {}});
    told.push({status: response.status, digest: await digest(response), cache: response.headers.get("cache-status")});
}
const protocols = performance.getEntriesByType("resource").map(entry => entry.nextHopProtocol);
document.getElementById("told").textContent = JSON.stringify({told, protocols});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(shutil.which("certutil") is None, reason="certutil (libnss3-tools) is not installed")
async def test_a_browser(secure: Secure, origin: Origin, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    path = gen_path(SIZE, "browser")
    page = (PAGE % path).encode()
    origin.script("/player", [Step(body=page, headers={"Content-Type": "text/html; charset=utf-8"})])
    home = {"HOME": str(tmp_path)}
    trusting = tmp_path / ".pki" / "nssdb"
    trusting.mkdir(parents=True)
    database = ["certutil", "-d", f"sql:{trusting}"]
    await output_of(*database, "-N", "--empty-password", env=home)
    await output_of(*database, "-A", "-n", "edge", "-t", "C,,", "-i", str(secure.trusted), env=home)
    flags = [
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=20000",
    ]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    out, _ = await output_of(
        CHROMIUM, *flags, f"--user-data-dir={tmp_path}/profile", "--dump-dom", f"{secure.url}/player", env=home
    )
    found = re.search(r'<p id="told">([^<]+)</p>', out.decode())
    assert found is not None, out.decode()
    said = json.loads(html.unescape(found[1]))
    whole = expected(path, 0, size_bytes(SIZE))
    digests = [hashlib.sha256(part).hexdigest() for part in (whole, whole, whole[1000:201_000])]
    assert [one["digest"] for one in said["told"]] == digests
    assert [one["status"] for one in said["told"]] == [200, 200, 206]
    assert all("; hit;" in one["cache"] for one in said["told"][1:])
    assert set(said["protocols"]) == {"http/1.1"}
    assert len(origin.requests_for(path)) == 1


async def test_certificates_are_renewed_under_load(secure: Secure) -> None:
    path = gen_path("300k", "renewed")
    whole = expected(path, 0, 300 << 10)
    seen: set[bytes] = set()
    is_over = False

    async def visit() -> int:
        visits = 0
        while not is_over:
            reader, writer = await secure.connect()
            seen.add(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            for _ in range(3):
                writer.write(request(path))
                status, _, body = await response(reader)
                assert (status, body) == (200, whole)
            writer.close()
            visits += 1
        return visits

    visitors = [asyncio.create_task(visit()) for _ in range(6)]
    for _ in range(3):
        renewed = secure.issue("edge.test", "localhost")

        async def taken_up(renewed: bytes = renewed) -> bool:
            return renewed in seen or any(one.done() for one in visitors)

        await until(taken_up)
    is_over = True
    assert all(visits > 2 for visits in await asyncio.gather(*visitors))


async def test_no_protocol_in_common_is_no_http(secure: Secure) -> None:
    context = secure.client_context()
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", secure.port, ssl=context, server_hostname="edge.test")
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    assert tls.selected_alpn_protocol() is None
    writer.close()
