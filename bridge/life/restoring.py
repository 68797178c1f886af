"""Find the state from which a machine can go on, and make it run from there."""

from __future__ import annotations

import asyncio
from logging import getLogger

from ..errors import BridgeError, HypervisorError
from ..hypervisors import Copies, Saves
from .checkpoints import MOST_TRIES, Checkpoints, SavedState

logger = getLogger(__name__)

AGAIN_S = 1.0
"""A QEMU of an earlier start that was killed may hold the disk while its memory is being freed."""


async def restore(hypervisor: Saves, record: Checkpoints) -> SavedState | None:
    """Start the machine from its newest state that can be restored, and return that; None if there is none.

    What fails may be the host's trouble, and passes. So each is tried twice before an older one is; it is given up
    only after failures in some starts. When all in the disk are given up, the copy of an older disk takes its place;
    the job begins anew only when that is given up too.

    :raise HypervisorError: none can be restored now.
    :raise OSError: the record cannot be written, or the copy cannot be put back.
    """
    state = await _restore_newest(hypervisor, record)
    if state is None and record.copy is not None and isinstance(hypervisor, Copies):
        logger.warning(
            "no checkpoint in the machine's disk can be restored: a copy of %s takes its place", record.copy.tag
        )
        await hypervisor.put_back(record.copy.tag)
        record.put_back()
        state = await _restore_newest(hypervisor, record)
    return state


async def _restore_newest(hypervisor: Saves, record: Checkpoints) -> SavedState | None:
    failure: HypervisorError | None = None
    for state in list(record.states):
        if state.tries >= MOST_TRIES:
            logger.warning("no guest has spoken after %d restores of %s", state.tries, state.tag)
            record.drop(state)
            continue
        record.tried(state)
        failure = await _try(hypervisor, state)
        if failure is not None:
            await asyncio.sleep(AGAIN_S)
            failure = await _try(hypervisor, state)
        if failure is None:
            done = state.progress.fraction_done
            logger.info("restored from %s, %s done", state.tag, "nothing said" if done is None else f"{done:.1%}")
            record.restored(state)
            await forget_strays(hypervisor, record)
            return state
    if failure is not None:
        raise failure
    return None


async def _try(hypervisor: Saves, state: SavedState) -> HypervisorError | None:
    try:
        await hypervisor.restore(state.tag)
    except HypervisorError as error:
        logger.warning("%s cannot be restored: %s", state.tag, error)
        return error
    return None


async def forget_strays(hypervisor: Saves, record: Checkpoints) -> None:
    """Delete the states and copies that are not recorded: older ones, and those that were cut short."""
    try:
        copy = None if record.copy is None else record.copy.tag
        await hypervisor.forget_all_but([state.tag for state in record.states], copy)
    except (BridgeError, OSError) as error:
        logger.warning("an older checkpoint stays: %s", error)
