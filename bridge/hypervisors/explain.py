"""From an error of a hypervisor's to the reason behind it, in the sentence that `vmbridge doctor` has for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from logging import getLogger

from ..errors import Hindered, HypervisorError, NotInstalled
from . import DETECTED, MACHINES
from .diagnosis import certain, diagnose, hindrance
from .facts import Facts
from .said import recognised
from .survey import survey

logger = getLogger(__name__)

Collect = Callable[[Collection[str]], Awaitable[Facts]]


async def explained(error: HypervisorError, name: str | None = None, collect: Collect = survey) -> HypervisorError:
    """Return an error that says why no machine could be started, and whose move it is; if nobody knows, the same one.

    What was said counts for more than what this computer looks like. `name` is the hypervisor; None is whichever there
    is. Must be called in the main thread; takes a second, a minute or two where programs hang.
    """
    if isinstance(error, Hindered):
        return error
    # What starts no machine, and what is another package's: only what it said is known of it.
    facts = await collect(DETECTED if name is None else [name] if name in MACHINES else [])
    diagnoses = diagnose(facts)
    said = recognised(str(error))
    if said is None:
        # What failed was there, if it does not say itself that it is not: it may be another package's.
        finding = hindrance(diagnoses, facts.served, missing=isinstance(error, NotInstalled))
    else:
        finding = certain(said, diagnoses)
    if finding is None:
        return error
    if finding.sentence != str(error):
        logger.info("%s", error)
    return finding.error()
