"""The page about images, tried by doing literally what it says in an empty folder."""

from __future__ import annotations

from pathlib import Path

from ..integration.test_docs import do_what_it_says, shell

__all__ = ["shell"]


def test_images(tmp_path: Path, shell: dict[str, str]) -> None:  # pytest's way to share a fixture
    done = do_what_it_says("images.md", tmp_path / "empty", shell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2.0"
    assert "image: ready after" in done.stdout
