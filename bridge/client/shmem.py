"""Map the shared memory, wherever this client keeps it. The only place that knows mmap, System V and Windows.

A client keeps it in the file `boinc_mmap_file` of the slot if it knows that the application was made for API 6.0 or
newer, else in a System V segment; on Windows it is a named mapping. We only ever attach: what we made ourselves nobody
would read. (BOINC: api/boinc_api.cpp, setup_shared_mem.)
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

from .app_ipc import SIZE
from .init_data import InitData

FILE = "boinc_mmap_file"


def attach(init_data: InitData, directory: Path) -> memoryview:
    """Return the memory that the client shares with the job in the slot `directory`, writable, `app_ipc.SIZE` bytes.

    It stays mapped until the process ends.

    :raise OSError: there is none.
    """
    if sys.platform == "win32":
        return _windows(init_data.comm_obj_name)
    if init_data.shm_key != -1:
        return _system_v(init_data.shm_key)
    return _file(directory / FILE)


def _file(path: Path) -> memoryview:
    fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    try:
        if (size := os.fstat(fd).st_size) < SIZE:
            raise OSError(0, f"has {size} bytes instead of {SIZE}", os.fspath(path))
        return memoryview(mmap.mmap(fd, SIZE))
    finally:
        os.close(fd)


def _system_v(key: int) -> memoryview:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    segment = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(0), 0)
    address = libc.shmat(segment, None, 0) if segment != -1 else None
    if address is None or address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: System V segment with key {key}")
    return memoryview((ctypes.c_ubyte * SIZE).from_address(address)).cast("B")


if sys.platform == "win32":

    def _windows(name: str) -> memoryview:
        """Never run so far (docs/DESIGN.md). `mmap` itself would make a new mapping where there is none."""
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenFileMappingW.restype = ctypes.c_void_p
        kernel.MapViewOfFile.restype = ctypes.c_void_p
        kernel.MapViewOfFile.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.c_size_t,
        )
        all_access = 0xF001F
        # A client that is a service keeps it in the global name space.
        for full_name in (f"Global\\shm_{name}", f"shm_{name}"):
            handle = kernel.OpenFileMappingW(all_access, False, full_name)
            if handle and (address := kernel.MapViewOfFile(handle, all_access, 0, 0, SIZE)):
                return memoryview((ctypes.c_ubyte * SIZE).from_address(address)).cast("B")
        raise ctypes.WinError(ctypes.get_last_error())
