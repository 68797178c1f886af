"""What these tests share with the integration tests, and their image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from ..integration import conftest as integration

IMAGE = REPOSITORY / "build" / "system"

make_job = integration.make_job


@pytest.fixture(scope="session")
def image() -> Path:
    """The image that `make images` built, with Python and the first-boot script beside this file."""
    if not (IMAGE / "image.json").exists():
        pytest.fail("there is no build/system: run `make images`")
    return IMAGE


def changed(image: Path, folder: Path, **changes: object) -> Path:
    """The same image with another manifest, in a new folder."""
    folder.mkdir()
    manifest = json.loads((image / "image.json").read_text())
    for file in image.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "image.json").unlink()
    (folder / "image.json").write_text(json.dumps({**manifest, **changes}))
    return folder


__all__ = ["changed", "image", "make_job"]
