"""Session tickets that every worker can open, so that a client resumes wherever its next connection lands.

The supervisor makes a secret at its start and hands it to each worker, also to one that replaces another; the key of a
period is derived from it, so that all agree without a message. A context holds one key: a ticket of the last period
costs its client one full handshake. OpenSSL ends tickets after two hours anyway.

Python's ssl has no call for the keys, OpenSSL has. Its context is found inside Python's object, and believed only if
it names the method that such contexts are made with; read through /proc/self/mem, since a wrong address must not
crash. Where any of this fails, every worker opens its own tickets only.
"""

from __future__ import annotations

import _ssl
import ctypes
import os
import ssl
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.logs import get_logger

SECRET_BYTES = 32
PERIOD_S = 12 * 3600
_KEY_BYTES = 80  # name, HMAC key and AES key: tls1.h says no more of it
_GET_KEYS, _SET_KEYS = 58, 59
_WORD = ctypes.sizeof(ctypes.c_void_p)
_WORDS_SEEN = 4
_log = get_logger()


class TicketKeys:
    def __init__(self, secret: bytes, now: float) -> None:
        self._secret = secret
        self._period = -1
        self._keys = b""
        self._is_shared = True
        self.turn(now)

    def turn(self, now: float) -> bool:
        """Whether another period has begun, so that contexts must be given its key."""
        period = int(now // PERIOD_S)
        if period == self._period:
            return False
        self._period = period
        info = b"edge session tickets %d" % period
        self._keys = HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(self._secret)
        return True

    def give(self, context: ssl.SSLContext) -> None:
        """Let a context make and open tickets with the period's key."""
        if not self._is_shared:
            return
        try:
            _set_keys(context, self._keys)
        except (AttributeError, OSError, OverflowError) as error:
            self._is_shared = False
            _log.warning("TLS sessions are resumed only by the worker that began them", error=str(error))


def _set_keys(context: ssl.SSLContext, keys: bytes) -> None:
    # a module of its own has its libraries' symbols, too; built in, they are the interpreter's
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    address = _address_of(context, library)
    control = library.SSL_CTX_ctrl
    control.restype = ctypes.c_long
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
    found = ctypes.create_string_buffer(_KEY_BYTES)
    if control(address, _SET_KEYS, _KEY_BYTES, keys) != 1 or control(address, _GET_KEYS, _KEY_BYTES, found) != 1:
        raise OSError("OpenSSL does not take the keys")
    if found.raw != keys:
        raise OSError("OpenSSL holds other keys")


def _address_of(context: ssl.SSLContext, library: ctypes.CDLL) -> int:
    """Where OpenSSL's SSL_CTX is: the first that Python's object holds. OSError where it does not look like it."""
    method = library.TLS_server_method
    method.restype = ctypes.c_void_p
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        (address,) = _words(memory.fileno(), id(context) + object.__basicsize__, 1)
        if method() not in _words(memory.fileno(), address, _WORDS_SEEN):
            raise OSError("Python keeps OpenSSL's context elsewhere")
    return address


def _words(memory: int, address: int, count: int) -> list[int]:
    data = os.pread(memory, count * _WORD, address)
    return [int.from_bytes(data[at : at + _WORD], sys.byteorder) for at in range(0, len(data), _WORD)]
