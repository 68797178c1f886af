"""The client's GUI RPC: what its results are doing, and the orders that a person gives with a manager.

A request and its reply are XML, each ended by a byte 3, over the client's Unix socket. The password is proved by the
MD5 of a nonce and itself.
"""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from xml.sax.saxutils import escape

from .tags import number_of, text_of

_END = b"\x03"
_TIMEOUT_S = 30.0

UPLOADING, UPLOADED, COMPUTE_ERROR, ABORTED = 4, 5, 3, 6
"""States of a result (`<state>`)."""

EXECUTING, SUSPENDED = 1, 9
"""States of its process (`<active_task_state>`)."""


class GuiRpcError(Exception):
    """The client does not answer, or says no."""


@dataclass(frozen=True, slots=True)
class SeenResult:
    """A result as the client shows it. Times in seconds; `process_state` is None when no process was ever started."""

    name: str
    state: int
    process_state: int | None
    suspended: bool
    ready_to_report: bool
    exit_status: int
    fraction_done: float
    current_cpu_time: float
    checkpoint_cpu_time: float
    wait_reason: str | None
    web_graphics_url: str | None


def _seen(xml: str) -> SeenResult:
    active = text_of(xml, "active_task") or ""
    process_state = text_of(xml, "active_task_state")
    return SeenResult(
        name=text_of(xml, "name") or "",
        state=int(number_of(xml, "state")),
        process_state=None if process_state is None else int(process_state),
        suspended="<suspended_via_gui/>" in xml,
        ready_to_report="<ready_to_report/>" in xml,
        exit_status=int(number_of(xml, "exit_status")),
        fraction_done=number_of(active, "fraction_done"),
        current_cpu_time=number_of(active, "current_cpu_time"),
        checkpoint_cpu_time=number_of(active, "checkpoint_cpu_time"),
        wait_reason=text_of(xml, "scheduler_wait_reason") if "<scheduler_wait/>" in xml else None,
        web_graphics_url=text_of(active, "web_graphics_url"),
    )


class GuiRpc:
    """One connection to a client; a context manager.

    :raise GuiRpcError: nobody answers, or the password is wrong. All methods raise it too.
    """

    def __init__(self, path: Path, password: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.connect(str(path))
            nonce = text_of(self.ask("<auth1/>"), "nonce") or ""
            proof = hashlib.md5((nonce + password).encode(), usedforsecurity=False).hexdigest()
            if "<authorized/>" not in self.ask(f"<auth2>\n<nonce_hash>{proof}</nonce_hash>\n</auth2>"):
                raise GuiRpcError("the client does not accept the password")
        except OSError as error:
            self.close()
            raise GuiRpcError(f"no client answers at {path}: {error}") from error
        except GuiRpcError:
            self.close()
            raise

    def __enter__(self) -> GuiRpc:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; may be called twice."""
        self._socket.close()

    def ask(self, request: str) -> str:
        """Send one request and return the reply's XML."""
        text = f"<boinc_gui_rpc_request>\n{request}\n</boinc_gui_rpc_request>\n"
        reply = bytearray()
        try:
            self._socket.sendall(text.encode() + _END)
            while not reply.endswith(_END):
                if not (piece := self._socket.recv(65536)):
                    raise GuiRpcError(f"the client hung up on {request.splitlines()[0]}")
                reply += piece
        except OSError as error:
            raise GuiRpcError(f"no reply to {request.splitlines()[0]}: {error}") from error
        return reply[:-1].decode(errors="replace")

    def order(self, request: str) -> None:
        """Send a request that is answered by `<success/>`."""
        reply = self.ask(request)
        if "<success/>" not in reply:
            raise GuiRpcError(f"{request.splitlines()[0]}: {reply}")

    def results(self) -> dict[str, SeenResult]:
        """Return all results that the client has, by name."""
        reply = self.ask("<get_results>\n<active_only>0</active_only>\n</get_results>")
        results = [_seen(xml) for xml in re.findall(r"<result>(.*?)</result>", reply, re.DOTALL)]
        return {result.name: result for result in results}

    def messages(self) -> list[str]:
        """Return the event log, oldest first."""
        reply = self.ask("<get_messages>\n<seqno>0</seqno>\n</get_messages>")
        return [body.strip() for body in re.findall(r"<body><!\[CDATA\[(.*?)\]\]></body>", reply, re.DOTALL)]

    def alerts(self) -> list[str]:
        """Return what the event log has that the volunteer is shown as a notice."""
        reply = self.ask("<get_messages>\n<seqno>0</seqno>\n</get_messages>")
        return [
            body.strip()
            for priority, body in re.findall(r"<pri>(\d+)</pri>.*?<body><!\[CDATA\[(.*?)\]\]></body>", reply, re.DOTALL)
            if priority == "2"
        ]

    def result_order(self, verb: str, project_url: str, name: str) -> None:
        """Order `suspend`, `resume` or `abort` of one result."""
        url, name = escape(project_url), escape(name)
        tag = f"{verb}_result"
        self.order(f"<{tag}>\n<project_url>{url}</project_url>\n<name>{name}</name>\n</{tag}>")

    def update(self, project_url: str) -> None:
        """Order the project to be asked now, whatever the client thinks of the time."""
        self.order(f"<project_update>\n<project_url>{escape(project_url)}</project_url>\n</project_update>")

    def quit(self) -> None:
        """Order the client to stop its tasks and go."""
        self.order("<quit/>")
