"""Certificates: chosen by the name a client asks for (SNI), taken up anew when their files change."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from edge.config import Certificate
from edge.errors import ConfigError
from edge.logs import get_logger
from edge.serve import kernel_tls
from edge.serve.tickets import TicketKeys

_CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
_ALPN = ("http/1.1",)
_log = get_logger()


def names_of(path: str) -> list[str]:
    """The DNS names that the certificate at the head of a PEM file is for, in lower case. OSError or ValueError."""
    with open(path, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return [name.lower() for name in names]


class Certificates:
    """One context a certificate; the first is for clients that name no host, or one we have no certificate for."""

    def __init__(self, certificates: Sequence[Certificate], ticket_keys: TicketKeys | None = None) -> None:
        self._certificates = certificates
        self._ticket_keys = ticket_keys
        self._period = 0
        """Whose key the tickets have."""
        self._stamps: list[tuple[float, float]] = []
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._contexts: list[ssl.SSLContext] = []
        self._load()

    @property
    def context(self) -> ssl.SSLContext:
        return self._contexts[0]

    def _load(self) -> None:
        by_name: dict[str, ssl.SSLContext] = {}
        contexts = []
        stamps = [_stamp(one) for one in self._certificates]
        for one in self._certificates:
            context = self._context(one)
            contexts.append(context)
            for name in names_of(one.certificate):
                by_name.setdefault(name, context)
        self._by_name = by_name
        self._stamps = stamps
        self._contexts = contexts
        self._give_ticket_keys()

    def _give_ticket_keys(self) -> None:
        if self._ticket_keys is not None:
            for context in self._contexts:
                self._ticket_keys.give(context)

    def _context(self, certificate: Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS_1_2)
        context.set_alpn_protocols(list(_ALPN))
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        # the client knows which of them its processor is quick at
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if kernel_tls.kernel_has_tls():
            context.options |= kernel_tls.ENABLE
        context.load_cert_chain(certificate.certificate, certificate.key)
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """RFC 6066, section 3: an exact name, then a wildcard for its first label."""
        if name is None:
            return
        name = name.lower()
        context = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        if context is not None:
            connection.context = context

    def refresh(self, now: float) -> None:
        """Take up the key of the tickets' period, and certificates whose files have changed."""
        if self._ticket_keys is not None and self._ticket_keys.turn(now):
            self._give_ticket_keys()
        self._reload_if_changed()

    def _reload_if_changed(self) -> None:
        """What cannot be read leaves the old ones in use."""
        try:
            if [_stamp(one) for one in self._certificates] == self._stamps:
                return
            self._load()
            _log.info("certificates reloaded")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            _log.error("certificates not reloaded: the old ones stay", error=str(error))


def _stamp(certificate: Certificate) -> tuple[float, float]:
    return os.stat(certificate.certificate).st_mtime, os.stat(certificate.key).st_mtime


def check(certificates: Sequence[Certificate]) -> None:
    """Raise ConfigError where a certificate cannot be used."""
    for one in certificates:
        try:
            Certificates([one])
        except (OSError, ValueError) as error:
            raise ConfigError([f"certificates: {one.certificate}, {one.key}: {error}"]) from error
