"""Kernel modules: which ones are needed and in what order, from what each says of itself. Pure.

Debian's package holds no modules.dep (installing the package makes it), but each module names what it depends on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable

_SIGNATURE_MAGIC = b"~Module signature appended~\n"
_SIGNATURE_TRAILER = 12  # struct module_signature; its last four bytes are the signature's length


def dependencies(module: bytes) -> list[str]:
    """Return the names of the modules that `module` depends on, as its .modinfo gives them.

    :raise ValueError: it names none, not even an empty list: no kernel module.
    """
    found = re.search(rb"\0depends=([A-Za-z0-9_,-]*)\0", module)
    if found is None:
        raise ValueError("no kernel module: it does not say what it depends on")
    return [name.decode() for name in found[1].split(b",") if name]


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


def without_signature(module: bytes) -> bytes:
    """Return `module` without the signature at its end, whose check is about a twelfth of the boot under TCG.

    (An unsigned module taints the kernel, which says so and does no more.)
    """
    if not module.endswith(_SIGNATURE_MAGIC):
        return module
    end = len(module) - len(_SIGNATURE_MAGIC)
    (length,) = struct.unpack(">I", module[end - 4 : end])
    return module[: max(0, end - _SIGNATURE_TRAILER - length)]
