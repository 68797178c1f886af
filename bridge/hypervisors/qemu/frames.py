"""Which of a machine's network frames may go out: to public addresses, and nowhere near the volunteer's computer.

The whole of the machine's way out is QEMU's user networking, which opens ordinary sockets of the host: to whatever
address a guest asks for, and for the addresses of its own little network (10.0.2.2, say) to the host's loopback. So
what may be asked for is decided here, frame by frame, before QEMU's network code sees it, by what that code goes by:
the type of the frame and the address in the IPv4 header. What is not known is dropped. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

NETWORK = "10.0.2.0/24"
GATEWAY = "10.0.2.2"
RESOLVER = "10.0.2.3"
"""QEMU's defaults, and VirtualBox's; the tiny image relies on them. The resolver passes questions on to the host's."""

_NOT_PUBLIC = tuple(
    (int(network.network_address), int(network.netmask))
    for network in map(
        ipaddress.IPv4Network,
        (
            # IANA's registry of special addresses, those that are not globally reachable, and all that is no host.
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)

_ARP = b"\x08\x06"
_IPV4 = b"\x08\x00"
_IP_AT = 14
_IP_BYTES = 20
_TCP = 6
_UDP = 17
_DONT_FRAGMENT = 0x4000

_HERE = {
    int(ipaddress.IPv4Address(address)): ports
    for address, ports in {
        RESOLVER: {(_UDP, 53), (_TCP, 53)},
        GATEWAY: {(_UDP, 67)},
        "255.255.255.255": {(_UDP, 67)},
    }.items()
}
"""What a guest may ask of QEMU itself: names and, by DHCP, its address. Any other port would be one of the host's."""


def may_go_out(frame: bytes, is_own: Callable[[int], bool]) -> bool:
    """Judge an Ethernet frame that a guest sends; `is_own` says whether a public address is one of this host's."""
    kind = frame[12:_IP_AT]
    if kind != _IPV4:
        return kind == _ARP
    if len(frame) < _IP_AT + _IP_BYTES:
        return False
    to = int.from_bytes(frame[30:34], "big")
    if (here := _HERE.get(to)) is not None:
        return _port(frame) in here
    return is_public(to) and not is_own(to)


def is_public(address: int) -> bool:
    """Say whether this IPv4 address is one that anybody in the internet can have."""
    return not any(address & mask == network for network, mask in _NOT_PUBLIC)


def _port(frame: bytes) -> tuple[int, int] | None:
    """The protocol and the port that a packet is for; None for a fragment, whose port stands elsewhere."""
    header = (frame[_IP_AT] & 15) * 4
    if int.from_bytes(frame[20:22], "big") & ~_DONT_FRAGMENT or header < _IP_BYTES:
        return None
    at = _IP_AT + header + 2
    return frame[23], int.from_bytes(frame[at : at + 2], "big")
