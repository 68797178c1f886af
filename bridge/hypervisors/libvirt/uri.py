"""Which libvirt is spoken to: the one that libvirt's own settings name, if its machines run on this computer. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from ...errors import HypervisorError


def refuse_elsewhere(uri: str) -> None:
    """See to it that `uri` is that of QEMU's machines on this computer.

    :raise HypervisorError: it is not; the message says what to do.
    """
    parts = urlsplit(uri)
    kind, _, transport = parts.scheme.partition("+")
    if kind != "qemu":
        raise HypervisorError(
            f"libvirt at {uri} runs no machines of QEMU's. Set LIBVIRT_DEFAULT_URI to qemu:///system or qemu:///session"
        )
    if parts.netloc or transport not in ("", "unix"):
        raise HypervisorError(
            f"libvirt at {uri} is on another computer, and its machines cannot share a folder with this one. "
            "Set LIBVIRT_DEFAULT_URI to qemu:///system or qemu:///session"
        )


def is_session(uri: str) -> bool:
    """Say whether a user's own libvirt is spoken to, whose machines run with that user's rights."""
    return urlsplit(uri).path == "/session"
