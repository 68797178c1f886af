"""How fast the processor's time-stamp counter runs, to be told to a guest that would measure it itself.

Under TCG a guest reads the host's own counter. Its kernel measures it at boot against an emulated timer; if its
processor does not run for some milliseconds meanwhile, as on a busy host, it takes the counter for 2 to 40 times too
slow, and all its clocks are that much too fast.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import mmap
import platform
import sys
import time
from collections.abc import Callable

from ...image import Image
from ...image.bare import BareDisk
from .command_line import Accelerated

_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
_FOR_S = 0.02
_TRIES = 8
_PLAUSIBLE_KHZ = range(100_000, 20_000_001)

Clock = Callable[[], int]


@functools.cache
def frequency_khz() -> int | None:
    """Measure it once, in 0.02 seconds; None where that cannot be done: the guest measures it itself then."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:  # a system that is hardened lets nobody make code
        return None
    page.write(_READ_COUNTER)
    code = ctypes.c_char.from_buffer(page)
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(code))
    found = frequency(counter, time.monotonic_ns, time.sleep)
    return found if found in _PLAUSIBLE_KHZ else None


async def for_boot(
    qemu: Accelerated, image: Image | BareDisk, measure: Callable[[], int | None] = frequency_khz
) -> int | None:
    """Return what the kernel of `image` is to be told when it boots; None where it needs nothing, or nothing is known.

    KVM's guests have a clock of their own, aarch64 has another counter, and a disk that boots by itself cannot be told.
    """
    if qemu.accelerator != "tcg" or not isinstance(image, Image) or image.arch != "x86_64":
        return None
    return await asyncio.to_thread(measure)


def frequency(counter: Clock, nanoseconds: Clock, sleep: Callable[[float], None]) -> int:
    """Return how many thousand times in a second ``counter`` counts, by a clock of nanoseconds.

    Whatever comes in between a look at the one and at the other is no matter: of several looks the quickest is taken.
    """
    first_ns, first = _look(counter, nanoseconds)
    sleep(_FOR_S)
    last_ns, last = _look(counter, nanoseconds)
    return round((last - first) * 1e6 / (last_ns - first_ns))


def _look(counter: Clock, nanoseconds: Clock) -> tuple[int, int]:
    looks = []
    for _ in range(_TRIES):
        before, count, after = nanoseconds(), counter(), nanoseconds()
        looks.append((after - before, (before + after) // 2, count))
    _, when, count = min(looks)
    return when, count
