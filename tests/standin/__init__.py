"""A stand-in for the BOINC client: starts any program in a slot, talks to it, says what the client would conclude.

For integration tests and `make bench`. It imports nothing of the bridge: what both would get wrong in the same way
would never be found. What it does and concludes was observed on clients 7.20.5 and 8.2.15.

- `memory`: the shared memory and its channels, from the client's side.
- `data_directory`: `slots/0` and `projects/P` with the client's links, copies and `init_data.xml`.
- `task`: what the client takes from the messages. Pure.
- `conclusion`: what it makes of an exit status and the files in the slot. Pure.
- `client`: the process in the slot, heartbeats, orders, and a record of every message.
"""

from .client import StandIn
from .conclusion import Conclusion, End
from .data_directory import DataDirectory
from .memory import Kind

__all__ = ["Conclusion", "DataDirectory", "End", "Kind", "StandIn"]
