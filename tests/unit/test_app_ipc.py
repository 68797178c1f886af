"""The eight channels: who may write when, and what the messages say."""

from __future__ import annotations

import pytest

from bridge.client.app_ipc import (
    CHANNEL_BYTES,
    SIZE,
    TEXT_BYTES,
    AppIpc,
    AppStatus,
    Control,
    Heartbeat,
    parse_control,
    parse_heartbeat,
)


def pair() -> tuple[AppIpc, AppIpc, bytearray]:
    memory = bytearray(SIZE)
    return AppIpc(memoryview(memory)), AppIpc(memoryview(memory)), memory


def test_a_message_goes_from_one_side_to_the_other_once() -> None:
    ours, theirs, _ = pair()
    assert theirs.app_status.receive() is None
    assert ours.app_status.send("<fraction_done>5.0e-01</fraction_done>")
    assert theirs.app_status.receive() == b"<fraction_done>5.0e-01</fraction_done>"
    assert theirs.app_status.receive() is None


def test_an_unread_message_is_never_written_over() -> None:
    ours, theirs, memory = pair()
    assert ours.app_status.send("first")
    before = bytes(memory)
    assert not ours.app_status.send("second, and longer")
    assert bytes(memory) == before, "not a byte of it may change while the client may be reading"
    assert theirs.app_status.receive() == b"first"
    assert ours.app_status.send("2") and theirs.app_status.receive() == b"2", "no rest of the longer one"


def test_the_channels_lie_where_the_client_looks() -> None:
    ours, _, memory = pair()
    names = {0: "process_control_request", 3: "graphics_reply", 4: "heartbeat", 5: "app_status", 6: "trickle_up",
             7: "trickle_down"}  # fmt: skip
    for number, name in names.items():
        getattr(ours, name).send(name)
        at = number * CHANNEL_BYTES
        assert memory[at] == 1 and memory[at + 1 :].startswith(name.encode() + b"\0")


def test_a_text_that_does_not_fit_is_our_own_mistake() -> None:
    ours, _, memory = pair()
    assert ours.app_status.send("x" * TEXT_BYTES)
    with pytest.raises(ValueError, match="1,001 bytes does not fit"):
        ours.trickle_up.send("x" * (TEXT_BYTES + 1))
    assert memory[6 * CHANNEL_BYTES] == 0


def test_a_client_that_fills_a_channel_to_its_end_without_nul() -> None:
    ours, _, memory = pair()
    memory[:CHANNEL_BYTES] = b"\x01" + b"<suspend/>" + b"x" * (CHANNEL_BYTES - 11)
    message = ours.process_control_request.receive()
    assert message is not None and len(message) == CHANNEL_BYTES - 1
    assert parse_control(message) == [Control.SUSPEND]


@pytest.mark.parametrize(
    ("message", "orders"),
    [
        (b"<suspend/>", [Control.SUSPEND]),
        (b"<resume/>\n<suspend/>\n", [Control.RESUME, Control.SUSPEND]),
        (b"<quit/>", [Control.QUIT]),
        (b"<abort/>", [Control.ABORT]),
        (b"<reread_app_info/>", [Control.REREAD_APP_INFO]),
        (b"<network_available/>", []),
        (b"", []),
        (b"\xff\xfe<quit", []),
    ],
)
def test_orders(message: bytes, orders: list[Control]) -> None:
    assert parse_control(message) == orders


@pytest.mark.parametrize(
    ("message", "heartbeat"),
    [
        (b"<heartbeat/>", Heartbeat()),
        (b"<heartbeat/><wss>1.5e+08</wss><max_wss>2.000000e+09</max_wss>", Heartbeat(1.5e8, 2e9)),
        (b"<heartbeat/><max_wss>2e9</max_wss><network_suspended/>", Heartbeat(0, 2e9, True)),
        (b"<heartbeat/><suspend_network/>", Heartbeat(0, 0, True)),
        (b"<heartbeat/><wss>nan</wss><max_wss>-inf</max_wss>", Heartbeat()),
        (b"<heartbeat/><wss></wss><max_wss>", Heartbeat()),
    ],
)
def test_heartbeats(message: bytes, heartbeat: Heartbeat) -> None:
    assert parse_heartbeat(message) == heartbeat


def test_both_cpu_times_stand_in_every_status() -> None:
    assert AppStatus(1, 1, other_pid=4321).encode().endswith("</checkpoint_cpu_time>\n<other_pid>4321</other_pid>\n")
    assert AppStatus(12.5, 0.0).encode() == (
        "<current_cpu_time>1.25000000e+01</current_cpu_time>\n<checkpoint_cpu_time>0.00000000e+00</checkpoint_cpu_time>\n"
    ), "the client takes 0 for one that is missing, and a fraction of 0 for none"


def test_a_full_status_fits_and_says_all() -> None:
    text = AppStatus(1e9, 1e9, 0.123456789, 1e30, 1e30, 1e12).encode()
    assert len(text) < TEXT_BYTES
    for tag in ("fraction_done", "fpops_cumulative", "intops_cumulative", "wss"):
        assert f"<{tag}>" in text
    assert " " not in text and "<other_pid>" not in text


def test_a_fraction_of_0_is_not_said() -> None:
    assert "fraction_done" not in AppStatus(1, 1, 0.0).encode()
