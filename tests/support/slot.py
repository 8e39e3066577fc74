"""The page of a worker as a worker would write it: ``struct fpm_slot`` of csrc/scoreboard.h, spelled out in ctypes."""

from __future__ import annotations

import ctypes
import mmap

from pyfpm.observe.scoreboard import BUCKETS, STATUS_CLASSES

TEXTS = {"method": 16, "uri": 1024, "query": 512, "script": 1024, "user": 64}


class SlotPage(ctypes.Structure):
    _fields_ = [
        ("magic", ctypes.c_uint32),
        ("seq", ctypes.c_uint32),
        ("stage", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("started_us", ctypes.c_uint64),
        ("duration_us", ctypes.c_uint64),
        ("content_length", ctypes.c_uint64),
        ("cpu_us", ctypes.c_uint64),
        *((f"{name}_length", ctypes.c_uint16) for name in TEXTS),
        ("reserved16", ctypes.c_uint16 * 3),
        *((name, ctypes.c_char * size) for name, size in TEXTS.items()),
        ("accepted", ctypes.c_uint64),
        ("requests", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("aborted", ctypes.c_uint64),
        ("slow", ctypes.c_uint64),
        ("connections", ctypes.c_uint64),
        ("bytes_out", ctypes.c_uint64),
        ("status", ctypes.c_uint64 * STATUS_CLASSES),
        ("service_sum_us", ctypes.c_uint64),
        ("service", ctypes.c_uint64 * BUCKETS),
        ("wait_sum_us", ctypes.c_uint64),
        ("wait", ctypes.c_uint64 * BUCKETS),
    ]

    def write(self, name: str, text: bytes) -> None:
        setattr(self, name, text)
        setattr(self, f"{name}_length", len(text))


def page_of(fd: int) -> SlotPage:
    """The page in this memfd, shared with whoever else has it mapped."""
    return SlotPage.from_buffer(mmap.mmap(fd, 4096))
