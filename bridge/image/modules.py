"""Kernel modules: which ones are needed and in what order, from what each says of itself. Pure.

Debian's package holds no modules.dep (installing the package makes it), but each module names what it depends on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_SIGNATURE_MAGIC = b"~Module signature appended~\n"
_NOT_NEEDED = (b".orc_unwind", b".orc_unwind_ip", b".BTF")
"""For stack traces, which say a little less, and for BPF. Both are sorted or checked at each load."""

_HEADER_SIZE = 64
_TABLE_AT = 0x28  # where the header says where the table is; the number of its entries follows 20 bytes later
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOBITS = 8
_ALLOC = 2

_SIGNATURE_TRAILER = 12  # struct module_signature; its last four bytes are the signature's length


def dependencies(module: bytes) -> list[str]:
    """Return the names of the modules that `module` depends on, as its .modinfo gives them but with `_` for `-`.

    :raise ValueError: it names none, not even an empty list: no kernel module.
    """
    found = re.search(rb"\0depends=([A-Za-z0-9_,-]*)\0", module)
    if found is None:
        raise ValueError("no kernel module: it does not say what it depends on")
    return [name.decode().replace("-", "_") for name in found[1].split(b",") if name]


def load_order(wanted: Iterable[str], read: Callable[[str], bytes]) -> list[str]:
    """Return `wanted` and all that they depend on, each after what it needs. `read` returns a module by its name."""
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"module {name} depends on itself")
        if name not in order:
            for needed in dependencies(read(name)):
                visit(needed, (*above, name))
            order.append(name)

    for name in wanted:
        visit(name, ())
    return order


def slim(module: bytes) -> bytes:
    """Return `module`, a 64-bit little-endian ELF file, without what the kernel would only read and put in order.

    That are its signature and the sections in `_NOT_NEEDED` with their relocations; under TCG they are a sixth of what
    loading it costs.

    :raise ValueError: it is no such file.
    """
    module = without_signature(module)
    try:
        return _packed(module, [_without_content(module, one) for one in _sections(module)])
    except (struct.error, IndexError) as error:
        raise ValueError("no kernel module: its sections are not where they should be") from error


@dataclass(frozen=True, slots=True)
class _Section:
    """One entry of an ELF file's section table."""

    name: bytes
    fields: tuple[int, ...]  # name, type, flags, addr, offset, size, link, info, addralign, entsize

    def bytes_of(self, module: bytes) -> bytes:
        _, kind, _, _, offset, size, *_ = self.fields
        return b"" if kind == _NOBITS else module[offset : offset + size]

    def at(self, offset: int) -> bytes:
        return _SECTION.pack(*self.fields[:4], offset, *self.fields[5:])


def _sections(module: bytes) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", module, _TABLE_AT)
    _, count, names = struct.unpack_from("<HHH", module, _TABLE_AT + 18)
    found = [_SECTION.unpack_from(module, table + number * _SECTION.size) for number in range(count)]
    strings = found[names][4]
    return [_Section(module[strings + one[0] :].partition(b"\0")[0], one) for one in found]


def _without_content(module: bytes, section: _Section) -> _Section:
    """The kernel passes over a section that needs no memory, and over the relocations of one."""
    if section.name.removeprefix(b".rela") not in _NOT_NEEDED:
        return section
    name, kind, flags, address, offset, _, *rest = section.fields
    return _Section(section.name, (name, kind, flags & ~_ALLOC, address, offset, 0, *rest))


def _packed(module: bytes, sections: list[_Section]) -> bytes:
    """Write the file anew, each section behind the other, with their table at the end."""
    body = bytearray(module[:_HEADER_SIZE])
    table = bytearray()
    for section in sections:
        body += bytes(-len(body) % max(1, section.fields[8]))
        table += section.at(len(body) if section.fields[1] else 0)
        body += section.bytes_of(module)
    body += bytes(-len(body) % 8)
    struct.pack_into("<Q", body, _TABLE_AT, len(body))
    return bytes(body + table)


def without_signature(module: bytes) -> bytes:
    """Return `module` without the signature at its end, whose check is about a twelfth of the boot under TCG.

    (An unsigned module taints the kernel, which says so and does no more.)
    """
    if not module.endswith(_SIGNATURE_MAGIC):
        return module
    end = len(module) - len(_SIGNATURE_MAGIC)
    (length,) = struct.unpack(">I", module[end - 4 : end])
    return module[: max(0, end - _SIGNATURE_TRAILER - length)]
