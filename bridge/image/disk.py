"""A guest's disk: an ext4 file system, empty or with a tree of files, the same bytes each time, made without root.

It is made once, with the image, so that no volunteer's host needs mke2fs and no guest spends time on it. mke2fs formats
it and debugfs writes the files into it one by one, in the order of their paths: other than `mke2fs -d` it asks no
folder in what order it lists its names, and takes no owner or time from this host.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..digest import sha256_of
from ..errors import ImageError
from .tools import complaints_of, run
from .tree import Node, in_order

SIZE = "8G"
EPOCH = "1686355200"
"""The time of all files: the day on which Debian 12 appeared. Programs that pack them choke on 1970."""

FORMATS = {
    "qcow2": ("-c", "-O", "qcow2", "-o", "compat=1.1,cluster_size=65536"),
    "vdi": ("-O", "vdi"),
    "vmdk": ("-O", "vmdk"),
}
"""What qemu-img is told for each. The numbers that it gives to a vdi are random."""

_VMDK_HEAD_BYTES = 65536
_VMDK_NUMBER = re.compile(rb"(?<=\nCID=)[0-9a-f]{1,8}(?=\n)")

# Without a journal: a restored machine's disk goes back in time together with its memory, and a machine that lost its
# memory starts on a new disk. Without checksums: nothing here outlives its task.
_FEATURES = "none,extent,filetype,flex_bg,sparse_super,large_file,huge_file,dir_index,dir_nlink,ext_attr,extra_isize"
_UUID = "76d6b0a2-6272-4964-8765-776f726b0001"
_BYTES_PER_INODE = "65536"
_SAME_EACH_TIME = {"E2FSPROGS_FAKE_TIME": EPOCH, "SOURCE_DATE_EPOCH": EPOCH, "MKE2FS_CONFIG": "/dev/null"}


def make_disk(target: Path, label: str, nodes: Iterable[Node] = (), disk_format: str = "qcow2") -> None:
    """Write a disk that holds `nodes` to `target`, which does not exist yet.

    Needs room for what it holds, not for its size.

    :raise NotInstalled, ImageError: as `tools.run`; a file's name cannot be written down; there are too many files.
    """
    raw = target.with_suffix(".raw")
    try:
        run(
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", _BYTES_PER_INODE, "-m", "0",
            "-O", _FEATURES, "-U", _UUID, "-L", label, "-E", f"hash_seed={_UUID},root_owner=0:0",
            raw, SIZE, env=_SAME_EACH_TIME,
        )  # fmt: skip
        _fill(raw, in_order(nodes))
        run("qemu-img", "convert", "-m", "1", "-f", "raw", *FORMATS[disk_format], raw, target)
        if disk_format == "vmdk":
            number_by_content(target)
    finally:
        raw.unlink(missing_ok=True)


def number_by_content(vmdk: Path) -> None:
    """Put a number made of its content in the place of the random one by which disks over it know the disk."""
    for number in (b"0" * 8, None):
        with vmdk.open("r+b") as file:
            head = file.read(_VMDK_HEAD_BYTES)
            file.seek(0)
            file.write(renumbered(head, number or sha256_of(vmdk)[:8].encode()))


def renumbered(head: bytes, number: bytes) -> bytes:
    """Return the head of a VMDK with another number, as long as it was: its text ends with zeros. Pure.

    :raise ImageError: it has none.
    """
    found = _VMDK_NUMBER.search(head)
    end = head.find(b"\0" * 8, found.end()) if found else -1
    if found is None or end < 0:
        raise ImageError("qemu-img has written a VMDK without a number. Report this to the bridge's developers")
    more = len(number) - len(found[0])  # qemu-img leaves out zeros in front
    return head[: found.start()] + number + head[found.end() : end] + head[end + more :]


def _fill(raw: Path, nodes: list[Node]) -> None:
    if not nodes:
        return
    script = raw.with_suffix(".debugfs")
    try:
        script.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in commands(nodes)))
        said = complaints_of("debugfs", "-w", "-f", script, raw, env=_SAME_EACH_TIME)
    finally:
        script.unlink(missing_ok=True)
    # It goes on after an error and ends with 0; what it always says is its version.
    if wrong := [line for line in said.splitlines() if line.strip() and not line.startswith("debugfs ")]:
        raise ImageError(f"the disk of {SIZE} cannot hold these files: debugfs says {wrong[0]}")
    run("e2fsck", "-f", "-n", raw)


def commands(nodes: Iterable[Node]) -> Iterator[str]:
    """Write down for debugfs how these nodes are made, one after the other. Pure.

    :raise ImageError: a name cannot be written down.
    """
    names: dict[str, int] = {}
    for node in nodes:
        path = _quoted(f"/{node.path}")
        if stat.S_ISDIR(node.mode):
            yield f"mkdir {path}"
        elif stat.S_ISLNK(node.mode):
            yield f"symlink {path} {_quoted(node.target or '')}"
        elif node.target is not None:
            first = _quoted(f"/{node.target}")
            names[first] = names.get(first, 1) + 1
            yield f"ln {first} {path}"
            yield f"sif {first} links_count {names[first]}"
            continue
        else:
            yield f"write {_quoted(str(node.content))} {path}"
        yield f"sif {path} mode 0{node.mode:o}"
        if node.uid:
            yield f"sif {path} uid {node.uid}"
        if node.gid:
            yield f"sif {path} gid {node.gid}"


def _quoted(name: str) -> str:
    if any(char < " " for char in name):
        raise ImageError(f"{name!r:.80} has a control character in its name. Rename it")
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
