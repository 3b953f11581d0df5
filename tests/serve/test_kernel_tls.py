"""What is found out about the kernel's TLS. Where it has it, all the other TLS tests run over it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from edge.serve import kernel_tls

_AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_ulp")
has_tls = "tls" in _AVAILABLE.read_text().split() if _AVAILABLE.exists() else False


@pytest.fixture
def context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= kernel_tls.ENABLE
    trustme.CA().issue_cert("edge.test").configure_cert(context)
    return context


@pytest.mark.skipif(has_tls, reason="this kernel has TLS")
def test_a_kernel_without_is_found_out(context: ssl.SSLContext) -> None:
    assert not kernel_tls.kernel_has_tls()
    assert not kernel_tls.works_with(context)


@pytest.mark.skipif(not has_tls, reason="this kernel has no TLS")
def test_a_kernel_with_is_found_out(context: ssl.SSLContext) -> None:
    assert kernel_tls.kernel_has_tls()
    assert kernel_tls.works_with(context)


def test_a_connection_that_openssl_keeps_is_found_out(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written to past OpenSSL it would send its bytes as they are."""
    context.options &= ~kernel_tls.ENABLE
    monkeypatch.setattr(kernel_tls, "kernel_has_tls", lambda: True)
    assert not kernel_tls.works_with(context)


def test_a_handshake_that_fails_is_no_way_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tls, "kernel_has_tls", lambda: True)
    without_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert not kernel_tls.works_with(without_certificate)


def test_a_plain_socket_is_not_encrypted(context: ssl.SSLContext) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, context.wrap_socket(theirs, server_side=True, do_handshake_on_connect=False) as tls:
        assert not kernel_tls.is_encrypted_by_kernel(tls)
