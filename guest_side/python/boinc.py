# SPDX-License-Identifier: Apache-2.0
"""The BOINC interface for Python programs inside a virtual machine: the names of PyBOINC, and a smaller one.

The smaller one, for new programs:

    import boinc

    with boinc.task() as task:
        for step in boinc.progress(range(1000)):
            work(step)
            task.ops(6e6 * step)
            if task.checkpoint_due():
                with task.checkpoint("state.json") as file:
                    json.dump(my_state, file)

Python 3.7 or newer, the standard library only, also Debian's python3-minimal. Reports go into the folder that the
environment variable VMBRIDGE_SPOOL names. Without it the program runs *standalone*: everything works and nothing is
reported. A report that cannot be written is lost and tried again with the next change; it never hurts the program.

Costs. `boinc_fraction_done`, `boinc_ops_cumulative` and `progress` store numbers and make no system call; a thread
writes the first change at once and then at most two a second, and sleeps while there is none.
`boinc_time_to_checkpoint` reads a clock, and looks into a file at most twice a second.

Threads. Every function may be called from any thread; `boinc_init` (or `task`) belongs on the main one, which is the
only one that can be asked to end.

fork. The process that called `boinc_init` reports, and only that one, so workers of `multiprocessing` may call anything
and report nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, NoReturn

from protocol.codec import decode, encode, is_name
from protocol.errors import ProtocolError
from protocol.messages import (
    Checkpoint,
    CreditReport,
    Finished,
    FractionDone,
    InitData,
    Message,
    TemporaryExit,
    TrickleUp,
    Upload,
)

__all__ = [
    "Task",
    "boinc_begin_critical_section",
    "boinc_checkpoint_completed",
    "boinc_elapsed_time",
    "boinc_end_critical_section",
    "boinc_finish",
    "boinc_fopen",
    "boinc_fraction_done",
    "boinc_get_fraction_done",
    "boinc_get_init_data",
    "boinc_get_status",
    "boinc_init",
    "boinc_init_options",
    "boinc_is_standalone",
    "boinc_need_network",
    "boinc_network_done",
    "boinc_network_poll",
    "boinc_ops_cumulative",
    "boinc_ops_per_cpu_sec",
    "boinc_parse_init_data_file",
    "boinc_receive_trickle_down",
    "boinc_report_app_status",
    "boinc_resolve_filename",
    "boinc_send_trickle_up",
    "boinc_temporary_exit",
    "boinc_time_to_checkpoint",
    "boinc_upload_file",
    "boinc_upload_status",
    "boinc_worker_thread_cpu_time",
    "boinc_wu_cpu_time",
    "error",
    "progress",
    "replacing",
    "task",
]

ERR_WRITE = -103
ERR_FOPEN = -108
ERR_INVALID_PARAM = -178
_UNSET = -1.0
_HALF_A_SECOND = 0.5
_DEFAULT_PERIOD_S = 300.0
_MOST = 1e30
_DELAY_MOST_S = 86_400.0
_DELAY_S = 300.0
_WAITING_MOST = 256
_TEXT_MOST = 60_000
_LINES_MOST = 1000
_VARIETY_MOST = 255
_UPLOAD_MOST = 200
_NUMBER_HIGHEST = 999_999_999


class error(Exception):  # PyBOINC's name
    """Something that BOINC's interface answers with an error number: `number`."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"{reason} ({number})")
        self.number = number


# What the program says. Stored by its threads, compared by ours.

_fraction = _UNSET
_fpops = _UNSET
_intops = _UNSET
_by_status = (_UNSET, _UNSET)  # of boinc_report_app_status, and what `_fraction` was then: as long as that stays
_idle = False  # our thread wants to be woken by a change


class _State:
    """Everything that no hot call touches; guarded by `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.initialized = False
        self.spool = os.environ.get("VMBRIDGE_SPOOL", "")
        self.reporting = False
        self.began = 0.0
        self.period = _DEFAULT_PERIOD_S
        self.checkpoints = 0
        self.checkpoint_cpu = 0.0  # seconds, of boinc_report_app_status
        self.told = (_UNSET, _UNSET, _UNSET)
        self.uploads: dict[str, int] = {}
        self.last = {"trickle_up": 0, "upload": 0}
        self.received = ""
        self.init_data = InitData()


_state = _State()
_woken = threading.Event()


# Files


def _path(name: str) -> str:
    return os.path.join(_state.spool, name)


def _write_temporary(folder: str, data: bytes) -> str:
    """Write a file under a name that nobody reads; what fails leaves none."""
    path = os.path.join(folder, f".send.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError:
        _remove(path)
        raise
    return path


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)


def _publish(name: str, message: Message) -> None:
    """Write one report, if there is somebody to tell."""
    with contextlib.suppress(OSError):
        _publish_or_fail(name, message)


def _publish_or_fail(name: str, message: Message) -> None:
    if not _state.reporting:
        return
    part = _write_temporary(_state.spool, encode(message))
    try:
        os.replace(part, _path(name))
    except OSError:
        _remove(part)
        raise


def _read(kind: str, name: str) -> Any:
    """Return the message of this kind in the spool, or None: it is not there, or nobody can read it."""
    try:
        with open(_path(name), "rb") as file:
            return decode(kind, file.read())
    except (OSError, ProtocolError):
        return None


def _numbers(folder: str, stem: str, separator: str = ".") -> list[int]:
    """Return the numbers N of the files STEM.N, the lowest first."""
    pattern = re.compile(f"{re.escape(stem + separator)}([1-9][0-9]{{0,8}})")
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []
    return sorted(int(found.group(1)) for found in map(pattern.fullmatch, names) if found)


# The thread


def _bounded(value: float) -> float:
    return min(value, _MOST)


def _count_or_none(value: float) -> float | None:
    return _bounded(value) if value >= 0 else None


def _said_fraction() -> float:
    value, then = _by_status
    return value if value != _UNSET and then == _fraction else _fraction


def _publish_fraction() -> None:
    _publish("fraction_done", FractionDone(min(max(_said_fraction(), 0.0), 1.0)))


def _publish_credit() -> None:
    _publish("creditreport", CreditReport(_count_or_none(_fpops), _count_or_none(_intops), time.process_time()))


def _tell_changes() -> bool:
    """Write what has changed; say whether anything had. It is not told again if the write fails."""
    with _state.lock:
        said = (_said_fraction(), _fpops, _intops)
        before, _state.told = _state.told, said
        if said[0] != before[0]:
            _publish_fraction()
        if said[1:] != before[1:]:
            _publish_credit()
        return said != before


def _await_change() -> None:
    """Sleep until there is a change. Who stores one before we look is found, who stores one later wakes us."""
    global _idle
    _woken.clear()
    _idle = True
    if not _tell_changes():
        _woken.wait()
    _idle = False
    _tell_changes()


def _run() -> None:
    while True:
        _await_change()
        while True:
            time.sleep(_HALF_A_SECOND)
            if not _tell_changes():
                break


def _wake() -> None:
    global _idle
    _idle = False
    _woken.set()


# Critical sections

_inside = 0
_saving = False
_counting = threading.Lock()
_direct = False  # SIGTERM ends the program, it does not only ask
_quit_request = False


def _on_request(number: int, frame: object) -> None:
    """SIGTERM, on the main thread."""
    global _quit_request
    _quit_request = True
    if _direct and _inside == 0 and not _saving:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _reconsider() -> None:
    """A section has ended, and with it perhaps the last reason not to end."""
    if _quit_request and _direct:
        os.kill(os.getpid(), signal.SIGTERM)


def _handle_requests(direct: bool) -> None:
    global _direct
    on_main = threading.current_thread() is threading.main_thread()
    if on_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_request)
        _direct = direct


def _forked() -> None:
    """In a child: it reports nothing, and SIGTERM ends it at once."""
    global _idle, _direct, _inside, _saving, _quit_request, _counting
    _state.reporting = False
    _state.lock.release()
    _counting = threading.Lock()  # another thread of the parent's may have held it
    _idle = _direct = _saving = _quit_request = False
    _inside = 0
    if signal.getsignal(signal.SIGTERM) is _on_request:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# When a checkpoint is due

_look_at = float("inf")
_due_at = float("inf")


def _is_asked() -> bool:
    try:
        with open(_path("save"), "rb") as file:
            return file.read(1) == b"1"
    except OSError:
        return False


def _take_question_back() -> None:
    """Before the checkpoint is reported: the agent may ask for another one as soon as it has seen this."""
    with contextlib.suppress(OSError):
        fd = os.open(_path("save"), os.O_WRONLY)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


def _restart_countdown() -> None:
    global _due_at, _look_at
    now = time.monotonic()
    _due_at = now + _state.period
    _look_at = now


def _parse_period(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) else _DEFAULT_PERIOD_S


# PyBOINC's names


def boinc_init() -> None:
    """Begin to report; call it once, early, on the main thread. Calling it again does nothing."""
    boinc_init_options()


def boinc_init_options(
    main_program: int = 1,
    check_heartbeat: int = 1,
    handle_process_control: int = 1,
    send_status_msgs: int = 1,
    handle_trickle_ups: int = 1,
    handle_trickle_downs: int = 1,
    direct_process_action: int = 1,
) -> int:
    """As `boinc_init`, with a say in what is done; the first call of the two counts.

    With `main_program` or `send_status_msgs` 0 nothing is reported; with `handle_process_control` 0 SIGTERM is left
    alone; with `direct_process_action` 0 it only sets `quit_request` in `boinc_get_status`, and the program has five
    seconds to save and exit. The others mean nothing here. Returns 0.
    """
    with _state.lock:
        if _state.initialized:
            return 0
        _state.initialized = True
        _state.spool = os.environ.get("VMBRIDGE_SPOOL", "")
        _state.reporting = bool(_state.spool and main_program and send_status_msgs)
        _state.period = _parse_period(os.environ.get("VMBRIDGE_CHECKPOINT_PERIOD", ""))
        _state.began = time.monotonic()
        _state.init_data = _read("init_data", "init_data") or InitData()
        _restart_countdown()
    if handle_process_control:
        _handle_requests(bool(direct_process_action))
    os.register_at_fork(before=_state.lock.acquire, after_in_parent=_state.lock.release, after_in_child=_forked)
    if _state.reporting:
        threading.Thread(target=_run, name="boinc", daemon=True).start()
    return 0


def _tell_last() -> None:
    if _said_fraction() != _UNSET:
        _publish_fraction()
    _publish_credit()


def _tell_end(code: int, message: str | None) -> None:
    """After `finished` nothing more is to be said."""
    global _fraction, _by_status
    if code == 0:
        _fraction = 1.0
        _by_status = (_UNSET, _UNSET)
    with _state.lock:
        _tell_last()
        _publish("finished", Finished(code, message and _one_line(message)))
        _state.reporting = False


def _one_line(message: str) -> str:
    """What R18 allows of a message for people: no control characters, 1,024 bytes."""
    clean = re.sub(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]", "?", message)
    return clean.encode()[:1024].decode("utf-8", "ignore")


def boinc_finish(status: int = 0, message: str | None = None) -> NoReturn:
    """Report that the work is over and end the process as `sys.exit(status)` does.

    0 means success and sets the fraction done to 1. `message` is for people. On another thread than the main one the
    process ends at once.
    """
    _tell_end(status, message)
    _exit(status)


def _exit(status: int) -> NoReturn:
    if threading.current_thread() is threading.main_thread():
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def boinc_temporary_exit(delay: float, reason: str | None = None, is_notice: bool = False) -> NoReturn:
    """End the process as `sys.exit(0)` does, to be started again in `delay` seconds, with its files as they are.

    A delay below 0, above a day, or NaN counts as 300, as with BOINC's client. `reason` is for people; with
    `is_notice` the volunteer is shown it, because they must do something. May be called before `boinc_init`. A hundred
    times in a row without a checkpoint are too many: the job ends with an error then. On another thread than the main
    one the process ends at once.

    :raise error: it cannot be told (-108); the program may go on.
    """
    seconds = float(delay)
    message = TemporaryExit(
        seconds if 0 <= seconds <= _DELAY_MOST_S else _DELAY_S, reason and _one_line(reason), int(bool(is_notice))
    )
    with _state.lock:
        if not _state.initialized:
            _state.reporting = bool(_state.spool)
        _tell_last()
        try:
            _publish_or_fail("temporary_exit", message)
        except OSError as trouble:
            raise error(ERR_FOPEN, f"cannot write to {_state.spool}: {trouble}") from trouble
        _state.reporting = False
    _exit(0)


def boinc_fraction_done(fraction: float) -> None:
    """Say which part of the work is done, 0 to 1: less counts as 0 and more as 1. NaN is passed over."""
    global _fraction
    value = float(fraction)
    if value == value:
        _fraction = value
        if _idle:
            _wake()


def boinc_get_fraction_done() -> float:
    """Return what `boinc_fraction_done` was last told, unchanged; -1 before that."""
    return _fraction


def boinc_ops_cumulative(fp: float, integer: float = 0.0) -> None:
    """Say how many floating-point and integer operations were done since the work began, before restarts included.

    NaN and negative numbers are passed over.
    """
    global _fpops, _intops
    fp, integer = float(fp), float(integer)
    if fp >= 0:
        _fpops = fp
    if integer >= 0:
        _intops = integer
    if _idle:
        _wake()


def boinc_ops_per_cpu_sec(fp: float, integer: float) -> None:
    """Do nothing: what counts here is what was done."""


def boinc_time_to_checkpoint() -> int:
    """Return 1 if the program should write a checkpoint now, else 0.

    It is 1 when the checkpoint period has passed since `boinc_init` or the last `boinc_checkpoint_completed`, or when
    the host asks for one because it wants to stop. It stays 1 until `boinc_checkpoint_completed` is called, and until
    then the program is in a critical section. The period is VMBRIDGE_CHECKPOINT_PERIOD, in seconds, or 300.
    """
    global _look_at, _saving
    if _saving:
        return 1
    now = time.monotonic()
    if now < _look_at:
        return 0
    _look_at = min(now + _HALF_A_SECOND, _due_at)
    if now < _due_at and not (_state.reporting and _is_asked()):
        return 0
    _look_at = now
    _saving = True
    return 1


def boinc_checkpoint_completed() -> None:
    """Report that a checkpoint is on the disk, before this returns, and start the period anew; good at any time."""
    global _saving
    with _state.lock:
        _state.checkpoints += 1
        if _state.reporting:
            _take_question_back()
        _publish("checkpoint", Checkpoint(_state.checkpoints, time.process_time()))
        if _state.initialized:
            _restart_countdown()
    _saving = False
    _reconsider()


def boinc_begin_critical_section() -> None:
    """Do not let me be ended from here to `boinc_end_critical_section`: it may be five seconds long. They nest."""
    global _inside
    with _counting:
        _inside += 1


def boinc_end_critical_section() -> None:
    """End the section. One too many does nothing."""
    global _inside
    with _counting:
        _inside = max(_inside - 1, 0)
    _reconsider()


def boinc_get_status() -> dict[str, Any]:
    """Return what the host wants: `quit_request` becomes 1 when the program shall end, all else is 0 for ever."""
    return {
        "no_heartbeat": 0,
        "suspended": 0,
        "quit_request": int(_quit_request),
        "reread_init_data_file": 0,
        "abort_request": 0,
        "working_set_size": 0.0,
        "max_working_set_size": 0.0,
        "network_suspended": 0,
    }


def boinc_is_standalone() -> int:
    """Return 1 if nothing is reported because VMBRIDGE_SPOOL is not set, else 0."""
    return 0 if os.environ.get("VMBRIDGE_SPOOL") else 1


def boinc_resolve_filename(name: str) -> str:
    """Return the real name of a file: `name`, unless that is one of BOINC's links."""
    try:
        with open(name, "rb") as file:
            begin = file.read(4095).split(b"\n")[0]
    except OSError:
        return name
    found = re.search(rb"<soft_link>([^\0]+?)</soft_link>", begin)
    return os.fsdecode(found.group(1)) if found else name


def boinc_fopen(path: str, mode: str = "r") -> IO[Any]:
    """Open a file as `open` does."""
    return open(path, mode)


def boinc_report_app_status(cpu_time: float, checkpoint_cpu_time: float, fraction_done: float) -> None:
    """Report for a program that looks after others: `fraction_done`, of which `boinc_get_fraction_done` knows nothing,
    and a checkpoint if `checkpoint_cpu_time` is more than in the last call. CPU time is counted outside. NaN is passed
    over.
    """
    global _by_status
    value = float(fraction_done)
    if value == value:
        _by_status = (value, _fraction)
        if _idle:
            _wake()
    with _state.lock:
        saved = checkpoint_cpu_time > _state.checkpoint_cpu
        if saved:
            _state.checkpoint_cpu = checkpoint_cpu_time
    if saved:
        boinc_checkpoint_completed()


def boinc_need_network() -> None:
    """Do nothing: the volunteer's settings decide."""


def boinc_network_poll() -> int:
    """Return 0: try it."""
    return 0


def boinc_network_done() -> None:
    """Do nothing."""


def _place(stem: str, part: str) -> None:
    """Give the file the next number that is free; another program of the task may have taken one."""
    while True:
        if _state.last[stem] >= _NUMBER_HIGHEST:
            raise error(ERR_WRITE, "there are no numbers left")
        _state.last[stem] += 1
        target = _path(f"{stem}.{_state.last[stem]}")
        try:
            os.link(part, target)
        except FileExistsError:
            continue
        except OSError:
            # A file system without hard links: a share, where there is no agent.
            os.rename(part, target)
        return


def _send(stem: str, message: Message) -> None:
    """Put a numbered message into the spool, whole, under the next number that is free."""
    data = encode(message)
    waiting = _numbers(_state.spool, stem)
    _state.last[stem] = max(_state.last[stem], *waiting, 0)
    if len(waiting) >= _WAITING_MOST:
        raise error(ERR_WRITE, f"{len(waiting)} wait already: try later")
    try:
        part = _write_temporary(_state.spool, data)
        try:
            _place(stem, part)
        finally:
            _remove(part)
    except OSError as trouble:
        raise error(ERR_WRITE, f"cannot write to {_state.spool}: {trouble}") from trouble


def boinc_send_trickle_up(variety: str, text: str) -> None:
    """Send a message to the project: `text` for the program of the server that is registered for `variety`.

    It is on its way when this returns.

    :raise error: it cannot be sent as it is (-178: a variety of more than 255 bytes, with a line break or a `<`,
        control characters, lines of more than 1,024 bytes, more than 1,000 lines or 60,000 bytes), or 256 wait there
        already, or it cannot be written (-103: try later).
    """
    lines = tuple(line[:-1] if line.endswith("\r") else line for line in text.split("\n"))
    try:
        size = len(variety.encode())
        data = encode(TrickleUp(variety, lines))
    except (ProtocolError, UnicodeError) as trouble:
        raise error(ERR_INVALID_PARAM, f"this trickle cannot be sent: {trouble}") from trouble
    if not 0 < size <= _VARIETY_MOST or re.search("[\r\n<]", variety):
        raise error(ERR_INVALID_PARAM, f"{variety!r} cannot be a trickle's variety")
    if len(lines) > _LINES_MOST or len(data) > _TEXT_MOST:
        raise error(ERR_INVALID_PARAM, f"a trickle of {len(lines)} lines and {len(data)} bytes is too large")
    with _state.lock:
        if _state.reporting:
            _send("trickle_up", TrickleUp(variety, lines))


def boinc_receive_trickle_down() -> str | None:
    """Return the name of a file in the working directory with a message of the project, or None.

    Read it and delete it; until then the same one is found again.
    """
    with _state.lock:
        if not _state.reporting:
            return None
        if _state.received and os.path.exists(_state.received):
            return _state.received
        here = _numbers(".", "trickle_down", "_")
        if here:  # an earlier program of this task has left it
            _state.received = f"trickle_down_{here[0]}"
            return _state.received
        return _fetch()


def _fetch() -> str | None:
    """Bring the oldest message from the spool, its text as the project wrote it."""
    for number in _numbers(_state.spool, "trickle_down"):
        message = _read("trickle_down", f"trickle_down.{number}")
        if message is None:
            continue
        try:
            part = _write_temporary(".", "\n".join(message.text).encode())
            os.replace(part, f"trickle_down_{number}")
        except OSError:
            return None
        _remove(_path(f"trickle_down.{number}"))
        _state.received = f"trickle_down_{number}"
        return _state.received
    return None


def boinc_upload_file(name: str) -> None:
    """Upload one of the job's output files now. It must be complete and must not change any more.

    Asking again for the same file does nothing.

    :raise error: -178, it cannot be the name of an output; -108, there is no such file; -103, it cannot be asked for.
    """
    if not is_name(name) or "<" in name or len(os.fsencode(name)) > _UPLOAD_MOST:
        raise error(ERR_INVALID_PARAM, f"{name!r} cannot be the name of an output")
    if not os.access(name, os.R_OK):
        raise error(ERR_FOPEN, f"there is no {name!r} to upload")
    with _state.lock:
        if _state.reporting and name not in _state.uploads:
            _send("upload", Upload(name))
            _state.uploads[name] = _state.last["upload"]


def boinc_upload_status(name: str) -> int:
    """Return 0 if the file is at the server, or the error number of the client's.

    :raise ValueError: nothing is known yet, or this process has not asked for it.
    """
    number = _state.uploads.get(name)
    answer = _read("uploaded", f"uploaded.{number}") if number else None
    if answer is None:
        raise ValueError(f"nothing is known of an upload of {name!r}")
    return int(answer.status)


def boinc_parse_init_data_file() -> None:
    """Read anew what is known of the job.

    :raise error: no client has said anything (-108).
    """
    found = _read("init_data", "init_data") if _state.spool else None
    _state.init_data = found or InitData()
    if found is None:
        raise error(ERR_FOPEN, "no client has said anything of the job")


def boinc_get_init_data() -> dict[str, Any]:
    """Return what is known of the job, under BOINC's names; what nobody has said is 0 or empty.

    `ncpus`, `p_ncpus` and `m_nbytes` are the machine's; `p_fpops` and `p_iops` are what one of the host's processors
    does in a second. `project_dir` and `boinc_dir` are the working directory.
    """
    said = _state.init_data
    names = ("app_name", "wu_name", "result_name")
    counts = ("app_version", "major_version", "minor_version", "release")
    numbers = (
        "rsc_fpops_est",
        "rsc_fpops_bound",
        "rsc_memory_bound",
        "rsc_disk_bound",
        "wu_cpu_time",
        "starting_elapsed_time",
        "computation_deadline",
        "resource_share_fraction",
        "fraction_done_start",
        "p_fpops",
        "p_iops",
    )
    cpus = os.cpu_count() or 1
    memory = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    end = said.fraction_done_end
    return {
        **{name: getattr(said, name) or "" for name in names},
        **{name: getattr(said, name) or 0 for name in counts},
        **{name: getattr(said, name) or 0.0 for name in numbers},
        "ncpus": said.ncpus or float(cpus),
        "fraction_done_end": 1.0 if end is None else end,
        "checkpoint_period": _state.period,
        "p_ncpus": cpus,
        "m_nbytes": memory,
        "project_dir": os.getcwd(),
        "boinc_dir": os.getcwd(),
    }


def boinc_worker_thread_cpu_time() -> float:
    """Return the CPU time of this process, all its threads, in seconds."""
    return time.process_time()


def boinc_wu_cpu_time() -> float:
    """Return the CPU time of earlier starts of the job and of this process, in seconds."""
    return (_state.init_data.wu_cpu_time or 0.0) + time.process_time()


def boinc_elapsed_time() -> float:
    """Return the seconds since `boinc_init` in which the machine ran; 0 before that."""
    return time.monotonic() - _state.began if _state.initialized else 0.0


# The smaller interface


@contextlib.contextmanager
def replacing(name: str, mode: str = "w") -> Iterator[IO[Any]]:
    """Write the file `name` anew: it has its new content when the block ends, and its old one until then.

    If the block ends with an exception the old one stays. Not synced: the machine's disk is saved as a whole.
    """
    part = os.path.join(os.path.dirname(name), f".{os.path.basename(name)}.{os.getpid()}.part")
    boinc_begin_critical_section()
    try:
        with open(part, mode) as file:
            yield file
        os.replace(part, name)
    except BaseException:
        _remove(part)
        raise
    finally:
        boinc_end_critical_section()


def progress(items: Iterable[Any], total: int | None = None, done: int = 0) -> Iterator[Any]:
    """Hand out the items, and report after each which part of the work is done.

    `total` is how many there are in all, where `len(items)` does not say it. `done` is how many were done before a
    restart; they are not among `items`, and `total` has them.
    """
    whole = total if total is not None else done + len(items)  # type: ignore[arg-type]  # a TypeError says what is missing
    for number, item in enumerate(items, done + 1):
        yield item
        boinc_fraction_done(number / whole)


class Task:
    """The work that the program is there for; `task()` makes it."""

    @property
    def fraction_done(self) -> float:
        """How much is done, 0 to 1; set it as often as you like. -1 before that."""
        return _fraction

    @fraction_done.setter
    def fraction_done(self, value: float) -> None:
        boinc_fraction_done(value)

    def ops(self, fp: float, integer: float = 0.0) -> None:
        """Say how many operations were done since the work began."""
        boinc_ops_cumulative(fp, integer)

    def checkpoint_due(self) -> bool:
        """Say whether it is time to save the program's state; `checkpoint` does it."""
        return bool(boinc_time_to_checkpoint())

    @contextlib.contextmanager
    def checkpoint(self, name: str, mode: str = "w") -> Iterator[IO[Any]]:
        """Write the state to the file `name`, as `replacing` does, then say that it is saved.

        A state of several files: write the others by `replacing` inside of this block.
        """
        with replacing(name, mode) as file:
            yield file
        boinc_checkpoint_completed()

    @contextlib.contextmanager
    def critical_section(self) -> Iterator[None]:
        """Do not let me be ended in this block."""
        boinc_begin_critical_section()
        try:
            yield
        finally:
            boinc_end_critical_section()

    def rest(self, seconds: float, reason: str | None = None, notice: bool = False) -> NoReturn:
        """End here, to be started again so much later (`boinc_temporary_exit`)."""
        boinc_temporary_exit(seconds, reason, notice)

    def send(self, variety: str, text: str) -> None:
        """Send a trickle to the project (`boinc_send_trickle_up`)."""
        boinc_send_trickle_up(variety, text)

    def receive(self) -> str | None:
        """Return the next message of the project, each once, or None."""
        name = boinc_receive_trickle_down()
        if name is None:
            return None
        with open(name, encoding="utf-8", newline="") as file:
            text = file.read()
        os.remove(name)
        return text

    def upload(self, name: str) -> None:
        """Upload an output that is complete (`boinc_upload_file`)."""
        boinc_upload_file(name)

    @property
    def init_data(self) -> dict[str, Any]:
        """What is known of the job (`boinc_get_init_data`)."""
        return boinc_get_init_data()


@contextlib.contextmanager
def task() -> Iterator[Task]:
    """Begin to report, and say at the end of the block that the work is over.

    An exception in the block, or `sys.exit` with a code, is a work that failed; its name and what it says are told.
    """
    boinc_init()
    try:
        yield Task()
    except SystemExit as end:
        _tell_exit(end.code)
        raise
    except Exception as trouble:
        _tell_end(1, f"{type(trouble).__name__}: {trouble}")
        raise
    _tell_end(0, None)


def _tell_exit(code: object) -> None:
    """As `sys.exit` reads its argument: None is 0, what is no number is told and 1."""
    if code is None or isinstance(code, int):
        _tell_end(int(code or 0), None)
    else:
        _tell_end(1, str(code))
