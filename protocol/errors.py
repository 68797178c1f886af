"""What can be wrong with a message, and whose fault it is.

ProtocolError
├── LocalProtocolError    we tried to say something illegal: our bug
└── RemoteProtocolError   the other side said something illegal
    └── Incomplete        it may not have finished saying it
"""


class ProtocolError(Exception):
    """A rule of docs/PROTOCOL.md was broken.

    `rule` names it ("R14", "B7"), `reason` is a sentence that quotes what was found.
    """

    def __init__(self, rule: str, reason: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("say whose fault it is: LocalProtocolError or RemoteProtocolError")
        super().__init__(f"{reason} ({rule})")
        self.rule = rule
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """We tried to write a message that the other side would have to refuse."""


class RemoteProtocolError(ProtocolError):
    """The other side wrote something that the protocol does not allow."""


class Incomplete(RemoteProtocolError):
    """The file does not end with a newline yet (R3): look again, or wait out the grace time (B3)."""
