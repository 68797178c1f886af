"""The work disk: an empty ext4 file system in a qcow2 file, the same bytes each time.

It is made once, with the image, so that no volunteer's host needs mke2fs and no guest spends time on it.
"""

from __future__ import annotations

from pathlib import Path

from .tools import run

SIZE = "8G"
LABEL = "vmbridge-work"

# Without a journal: a restored machine's disk goes back in time together with its memory, and a machine that lost its
# memory starts on a new disk. Without checksums: nothing here outlives its task.
_FEATURES = "none,extent,filetype,flex_bg,sparse_super,large_file,huge_file,dir_index,dir_nlink,ext_attr,extra_isize"
_UUID = "76d6b0a2-6272-4964-8765-776f726b0001"
_BYTES_PER_INODE = "65536"
_SAME_EACH_TIME = {"E2FSPROGS_FAKE_TIME": "1", "SOURCE_DATE_EPOCH": "1", "MKE2FS_CONFIG": "/dev/null"}


def make_work_disk(target: Path) -> None:
    """Write the work disk to `target`, which does not exist yet; needs room for its few blocks, not for its size.

    :raise NotInstalled, ImageError: as `tools.run`.
    """
    raw = target.with_suffix(".raw")
    try:
        run(
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", _BYTES_PER_INODE, "-m", "0",
            "-O", _FEATURES, "-U", _UUID, "-L", LABEL, "-E", f"hash_seed={_UUID},root_owner=0:0",
            raw, SIZE, env=_SAME_EACH_TIME,
        )  # fmt: skip
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,cluster_size=65536", raw, target)
    finally:
        raw.unlink(missing_ok=True)
