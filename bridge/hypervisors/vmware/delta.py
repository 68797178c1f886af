"""The machine's own disk: an empty VMDK that lies over the project's, which is never written. Pure.

The format is the sparse extent of VMware's "Virtual Disk Format 5.0" with its description inside. VMware's own tools
make such a disk only as a part of a snapshot or a clone, of a machine that would have to be there first.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
_MAGIC = b"KDMV"
_FLAGS = 3  # the test for end-of-line characters, and a second directory
_COMPRESSED = 1 << 16

_SECTOR = 512
_GRAIN = 128
_ENTRIES = 512
_TABLE = _ENTRIES * 4 // _SECTOR
"""A grain, and a table of grains, in sectors."""

_DESCRIPTION = 20
_MOST_DESCRIPTION = 2048
"""Where the description lies, in sectors; and how much of the project's is read."""

_LARGEST = (2 << 40) // _SECTOR
"""Of a sparse extent, in sectors."""

_EXTENT = re.compile(r'^(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)(?:\s+"([^"]*)")?', re.MULTILINE)

HEAD_BYTES = _HEADER.size


@dataclass(frozen=True, slots=True)
class Parent:
    """What of the project's disk its child must know: sectors, identity, and its geometry as it is written there."""

    sectors: int
    identity: str
    geometry: tuple[str, ...]


def description_at(head: bytes) -> tuple[int, int]:
    """Return where a disk that begins with `head` has its description, and how long it is, in bytes.

    :raise ValueError: it has none that serves; the text goes on from the disk's name.
    """
    magic, _, flags, _, _, at, size, *_ = _unpacked(head)
    if magic != _MAGIC or not at or not size:
        raise ValueError("is no VMDK that is all in one file")
    if flags & _COMPRESSED:
        raise ValueError("is compressed, and VMware runs no such disk. Convert it: qemu-img convert -O vmdk")
    if size > _MOST_DESCRIPTION:
        raise ValueError("has a description that is too long")
    return at * _SECTOR, size * _SECTOR


def parent(head: bytes, description: bytes, *, is_ours: bool = False) -> Parent:
    """Return what a child of the disk must know. One that `is_ours` lies over another itself.

    :raise ValueError: it names other files, or is broken; the text goes on from the disk's name.
    """
    sectors = _unpacked(head)[3]
    text = description.partition(b"\0")[0].decode("utf-8", "replace")
    values = dict(re.findall(r'^(\w+)\s*=\s*"?([^"\r\n]*?)"?\s*$', text, re.MULTILINE))
    kinds = _EXTENT.findall(text)
    alone = (
        values.get("createType") == "monolithicSparse"
        and (is_ours or values.get("parentCID", "ffffffff").lower() == "ffffffff")
        and (is_ours or "parentFileNameHint" not in values)
        and [kind for kind, _ in kinds] == ["SPARSE"]
        and not re.search(r"[/\\]", kinds[0][1])
    )
    if not alone:
        raise ValueError("names other files, or is no monolithicSparse. Convert it: qemu-img convert -O vmdk")
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", values.get("CID", "")) or not 0 < sectors <= _LARGEST:
        raise ValueError("is broken")
    return Parent(sectors, values["CID"], tuple(re.findall(r'^ddb\.[\w.]+\s*=\s*"[^"\r\n]*"', text, re.MULTILINE)))


def delta(below: Parent, path: str, name: str) -> tuple[int, list[tuple[int, bytes]]]:
    """Return an empty disk called `name` over that at `path`: how many bytes it has, and what is written where in them.

    :raise ValueError: there is no way to write this path down; the text goes on from the disk's name.
    """
    text = _description(below, path, name).encode()
    if len(text) > _DESCRIPTION * _SECTOR or re.search(r'["\r\n]', path):
        raise ValueError("lies at a path that VMware's disks cannot name. Move the BOINC client's folder")
    tables = -(-below.sectors // (_GRAIN * _ENTRIES))
    directory = -(-tables * 4 // _SECTOR)
    second = 1 + _DESCRIPTION
    first = second + directory + tables * _TABLE
    end = -(-(first + directory + tables * _TABLE) // _GRAIN) * _GRAIN
    header = _HEADER.pack(
        _MAGIC, 1, _FLAGS, below.sectors, _GRAIN, 1, _DESCRIPTION, _ENTRIES, second, first, end, 0, b"\n \r\n", 0
    )
    parts = [(0, header), (_SECTOR, text)]
    for at in (second, first):
        places = (at + directory + number * _TABLE for number in range(tables))
        parts.append((at * _SECTOR, struct.pack(f"<{tables}I", *places)))
    return end * _SECTOR, parts


def _description(below: Parent, path: str, name: str) -> str:
    return "\n".join([
        "# Disk DescriptorFile",
        "version=1",
        "CID=fffffffe",
        f"parentCID={below.identity}",
        'createType="monolithicSparse"',
        f'parentFileNameHint="{path}"',
        "",
        f'RW {below.sectors} SPARSE "{name}"',
        "",
        *below.geometry,
        "",
    ])  # fmt: skip


def _unpacked(head: bytes) -> tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, bytes, int]:
    if len(head) < _HEADER.size:
        raise ValueError("is no VMDK that is all in one file")
    return _HEADER.unpack_from(head)
