"""Which of a job's images is taken: the first that is there and that the hypervisor can boot. None is converted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path

from . import Image, ImageMissing

logger = getLogger(__name__)


def choose_image(
    images: Sequence[Path], load: Callable[[Path], Image], refuses: Callable[[Image], str | None]
) -> Image:
    """Return the first of `images` that `load` finds and `refuses` has nothing against.

    One that is broken is not passed over: it is the project's to mend.

    :raise ImageMissing: none is there.
    :raise ImageError: one is broken.
    :raise Hindered: the hypervisor can boot none of those that are there; the log says why, for each.
    """
    missing: list[ImageMissing] = []
    refused: list[str] = []
    for path in images:
        try:
            image = load(path)
        except ImageMissing as error:
            missing.append(error)
            continue
        why = refuses(image)
        if why is None:
            if len(images) > 1:
                logger.info("of the images of the job, %s is taken", path.name)
            return image
        logger.warning("the image %s cannot be booted here: %s", path, why)
        refused.append(why)
    if refused:
        from ..hypervisors.reasons import find

        raise find("no-image", said=refused[0]).error()
    if len(missing) == 1:
        raise missing[0]
    raise ImageMissing(f"none of the job's images is there: {', '.join(map(str, images))}. {_BUILD} {images[0]}")


_BUILD = "Build one with: vmbridge image build"
