"""What of the client's words about a job its program may know, in the protocol's form. Pure.

Names, versions, sizes. Never the authenticator and nothing that says who the volunteer is or what their computer is
called: the program gets no more than it needs to work, because what runs in the machine may not be what the project
meant to send, and may have a network. No path either: the host's mean nothing there.
"""

from __future__ import annotations

from dataclasses import replace

from protocol.codec import encode, keys
from protocol.errors import LocalProtocolError
from protocol.messages import InitData as ForGuest

from .client.init_data import InitData


def for_guest(client: InitData, *, cpus: int) -> ForGuest:
    """Return what the program of a machine with `cpus` processors may know; what cannot be said is left out."""
    everything = ForGuest(
        app_name=client.app_name or None,
        wu_name=client.wu_name or None,
        result_name=client.result_name or None,
        app_version=client.app_version,
        major_version=client.major_version,
        minor_version=client.minor_version,
        release=client.release,
        ncpus=float(cpus),
        rsc_fpops_est=client.rsc_fpops_est,
        rsc_fpops_bound=client.rsc_fpops_bound,
        rsc_memory_bound=client.rsc_memory_bound,
        rsc_disk_bound=client.rsc_disk_bound,
        wu_cpu_time=client.wu_cpu_time,
        starting_elapsed_time=client.starting_elapsed_time,
        computation_deadline=client.computation_deadline,
        resource_share_fraction=client.resource_share_fraction,
        fraction_done_start=client.fraction_done_start,
        fraction_done_end=client.fraction_done_end,
        p_fpops=client.p_fpops,
        p_iops=client.p_iops,
    )
    unsaid = {key: None for key in keys(ForGuest) if not _can_be_said(everything, key)}
    return replace(everything, **unsaid)


def _can_be_said(everything: ForGuest, key: str) -> bool:
    """Say whether the value keeps the rules: a name may be no UTF-8, a number out of range."""
    try:
        encode(ForGuest(**{key: getattr(everything, key)}))
    except LocalProtocolError:
        return False
    return True
