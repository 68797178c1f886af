"""Make the folders of a share."""

from __future__ import annotations

from protocol.layout import Share

from ..trees import remove_tree


def make_anew(share: Share) -> None:
    """Make both exports, new and empty; whatever was there before is gone (B10).

    :raise OSError: a folder could not be removed or made.
    """
    for folder in dict.fromkeys((share.host, share.guest)):
        remove_tree(folder)
        folder.mkdir(parents=True)
