"""Whether bytes of a file are in the page cache, so that sending them waits for no disk.

cachestat(2) (Linux 6.5) answers for a whole range in one call. Where it is missing, preadv2 with RWF_NOWAIT is asked
for one byte at the start, the middle and the end: a cold middle between warm ends is rare, and costs one slow turn.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

_PAGE = mmap.PAGESIZE
_SYS_CACHESTAT = 451  # the same number on every architecture


class _Range(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Stat(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted"))


_libc = ctypes.CDLL(None, use_errno=True)
_range = _Range()
_stat = _Stat()
_range_at = ctypes.byref(_range)
_stat_at = ctypes.byref(_stat)
_byte = bytearray(1)
_bytes = [_byte]


def resident(fd: int, start: int, length: int) -> bool:
    """Whether all pages of [start, start + length) are in memory. One thread only: it answers in shared buffers."""
    if _has_cachestat:
        _range.off = start
        _range.len = length
        if _libc.syscall(_SYS_CACHESTAT, fd, _range_at, _stat_at, 0) == 0:
            pages = (start + length + _PAGE - 1) // _PAGE - start // _PAGE
            return bool(_stat.cache >= pages)
    end = start + length - 1
    return _probe(fd, end) and _probe(fd, start) and _probe(fd, (start + end) // 2)


def _probe(fd: int, position: int) -> bool:
    try:
        os.preadv(fd, _bytes, position, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        # a file system that cannot say (tmpfs) has nothing to wait for; anything else shows when it is read
        return error.errno == errno.EOPNOTSUPP
    return True


def _cachestat_works() -> bool:
    # asked of a file of our own, since newer kernels do not tell of others'
    fd = os.memfd_create("residency")
    try:
        _range.off, _range.len = 0, _PAGE
        return bool(_libc.syscall(_SYS_CACHESTAT, fd, _range_at, _stat_at, 0) == 0)
    finally:
        os.close(fd)


_has_cachestat = _cachestat_works()
