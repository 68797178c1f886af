"""Compile sources so that the same sources give the same bytes, whatever this process has done before.

`marshal` writes an object in one of two ways, depending on how many references there are to it, and so on what else
the process has imported. So a fresh process compiles, always the same one: no site, no environment, a fixed hash seed.
"""

from __future__ import annotations

import importlib.util
import marshal
import subprocess
import sys
from collections.abc import Mapping

from ..errors import HostError, host_trouble

_CHILD = """
import marshal, sys
sources = marshal.load(sys.stdin.buffer)
codes = [marshal.dumps(compile(text, name, "exec", dont_inherit=True, optimize=0)) for name, text in sources]
marshal.dump(codes, sys.stdout.buffer)
"""

_HEADER = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little")
"""Of a .pyc that is valid by its hash, and whose hash nobody checks (PEP 552): no clock is in it."""


def compile_all(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what belongs into the `.pyc` of each source; the keys of `sources` are their names in tracebacks.

    :raise HostError: a source is no Python of this version, or this Python cannot be started.
    """
    names = sorted(sources)
    with host_trouble(f"start {sys.executable}"):
        child = subprocess.run(
            [sys.executable, "-S", "-c", _CHILD],
            input=marshal.dumps([(name, sources[name]) for name in names]),
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            capture_output=True,
            check=False,
        )
    if child.returncode:
        raise HostError(f"{sys.executable} cannot compile: {child.stderr.decode(errors='replace').strip()[-600:]}")
    codes = marshal.loads(child.stdout)
    return {
        name: _HEADER + importlib.util.source_hash(sources[name]) + code
        for name, code in zip(names, codes, strict=True)
    }
