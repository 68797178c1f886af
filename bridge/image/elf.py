"""Which dynamic linker a program asks for, told from its first bytes. Pure, and safe with any bytes.

An image with nothing but static programs in it can then refuse a program before the machine starts, instead of with
the guest kernel's "not found". The format is in elf(5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

ENOUGH = 65_536
"""So many of a program's first bytes hold what is looked for, in every file that a linker makes."""

UNKNOWN_INTERPRETER = "?"

_PT_INTERP = 3
_BYTE_ORDERS = {1: "<", 2: ">"}
_PATH_MAX = 4_096


@dataclass(frozen=True, slots=True)
class _Class:
    """Where the fields of one ELF class (32 or 64 bits) stand, as formats of `struct`."""

    header: str  # e_phoff at 0, then e_phentsize, e_phnum as the last two
    header_at: int
    segment: str  # p_type, p_offset, p_filesz


_CLASSES = {
    1: _Class(header="I 4x 4x 2x H H", header_at=28, segment="I I 8x I"),
    2: _Class(header="Q 8x 4x 2x H H", header_at=32, segment="I 4x Q 16x Q"),
}


def needs_interpreter(header_bytes: bytes) -> str | None:
    """Return the path of the dynamic linker that the program beginning with `header_bytes` needs.

    None: it needs none, or is no ELF program. `UNKNOWN_INTERPRETER`: it needs one whose name lies outside of the
    bytes given. What is not printable comes escaped.
    """
    if header_bytes[:4] != b"\x7fELF" or len(header_bytes) < 6:
        return None
    elf, order = _CLASSES.get(header_bytes[4]), _BYTE_ORDERS.get(header_bytes[5])
    if elf is None or order is None:
        return None
    try:
        table, size, count = struct.unpack_from(order + elf.header, header_bytes, elf.header_at)
        segment = struct.Struct(order + elf.segment)
        if size < segment.size:
            return None
        for at in range(table, table + size * count, size):
            kind, offset, length = segment.unpack_from(header_bytes, at)
            if kind == _PT_INTERP:
                length = min(length, _PATH_MAX)
                return _path(header_bytes[offset : offset + length], length)
    except (struct.error, OverflowError):  # the header or its table ends before it should, or lies past the end
        return None
    return None


def _path(raw: bytes, length: int) -> str:
    path = raw.partition(b"\0")[0] if len(raw) == length else b""
    return path.decode("latin-1").encode("unicode_escape").decode("ascii") or UNKNOWN_INTERPRETER
