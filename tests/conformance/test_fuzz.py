"""Whatever bytes come, both implementations say the same line, and neither does anything else."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol.errors import LocalProtocolError, ProtocolError
from protocol.messages import KINDS

from .conftest import CAdapter
from .test_vectors import VECTORS, python_adapter, vectors

SEEDS = [(VECTORS / folder / name).read_bytes() for folder in ("valid", "invalid") for name in vectors(folder)]
SMALL_SEEDS = [seed for seed in SEEDS if len(seed) < 500]

key = st.sampled_from(sorted({key for message in KINDS.values() for key in codec.keys(message)} | {"protocol", "x"}))
value = st.one_of(
    st.sampled_from(["", "1", "0", "run", "ready", "0.5", "1e30", "nan", "-1", "a/b", "A=b", " 1 ", "1 ", "\t7"]),
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
)
line = st.one_of(st.builds("{} {}".format, key, value), st.text(max_size=20), st.just("protocol 1"))
structured = st.builds(
    lambda head, lines, end: (head + "\n".join(lines) + end).encode("utf-8", "surrogatepass"),
    st.sampled_from(["", "protocol 1\n"]),
    st.lists(line, max_size=8),
    st.sampled_from(["\n", "", "\r\n"]),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A vector with a few bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(SMALL_SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


anything = st.one_of(structured, mutated(), st.binary(max_size=200))


# No time limits: another process may have the processor.
@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(kind=st.sampled_from([*KINDS, "filename"]), data=anything)
def test_python_and_c_agree_on_any_bytes(c_adapter: CAdapter, kind: str, data: bytes) -> None:
    said = python_adapter(kind, data)
    assert said.split()[0] in ("ok", "incomplete", "invalid")
    assert c_adapter(kind, data) == said


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(sorted(KINDS)), data=anything)
def test_what_was_read_is_written_so_that_it_reads_the_same(kind: str, data: bytes) -> None:
    try:
        message = codec.decode(kind, data)
    except ProtocolError:
        return
    try:
        written = codec.encode(message)
    except LocalProtocolError:
        return  # canonical spelling can be longer than the file was
    assert codec.decode(kind, written) == message
