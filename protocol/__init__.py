"""The protocol between host and guest: small files in a shared directory, and nothing else.

Standard library only; imports neither `bridge` nor `guest_side`. The normative text is docs/PROTOCOL.md; the R and B
numbers in this package are its rules.

Reading order: layout (which files there are), messages (what they say), codec (bytes <-> message), files (the one door
to the disk), session (what a sequence of files means).
"""

VERSION = 1
"""The version of the protocol that this package speaks, the value of the key `protocol`."""
