"""Device files and who may open them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from .facts import Access, Account, Device


def device(path: Path) -> Device:
    """Return how a device file is, by opening it."""
    try:
        there = path.stat()
    except OSError:
        return Device()
    access = Access.OPENS
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except PermissionError:
        access = Access.FORBIDDEN
    except OSError:  # a node in /dev whose driver is not there
        access = Access.ABSENT
    return Device(access, stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid, _group_name(there.st_gid))


if sys.platform == "win32":  # never run so far (docs/DESIGN.md)

    def me() -> Account:
        """Who runs this process."""
        return Account(os.environ.get("USERNAME", "you"), 1)

    def account(name: str) -> Account | None:
        """The user of this name."""
        return None

    def groups() -> frozenset[str]:
        """The names of all groups."""
        return frozenset()

    def _group_name(gid: int) -> str:
        return ""

else:
    import grp
    import pwd

    def me() -> Account:
        """Who runs this process. What groups the process has counts: one that was joined counts from the next login."""
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            name = str(os.geteuid())
        numbers = frozenset((*os.getgroups(), os.getegid()))
        return Account(name, os.geteuid(), numbers, frozenset(map(_group_name, numbers)))

    def account(name: str) -> Account | None:
        """The user of this name, with the groups that it is in; None if there is none."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        numbers = frozenset(os.getgrouplist(name, entry.pw_gid))
        return Account(name, entry.pw_uid, numbers, frozenset(map(_group_name, numbers)))

    def groups() -> frozenset[str]:
        """The names of all groups."""
        return frozenset(group.gr_name for group in grp.getgrall())

    def _group_name(gid: int) -> str:
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return ""
