# SPDX-License-Identifier: GPL-2.0-or-later
"""A bus, talked to from a process of its own: whatever hangs there, this one goes on in time."""

from __future__ import annotations

from go_health_hook.deadline import Deadline
from go_health_hook.errors import HookError
from go_health_hook.run.worker import Worker
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Call = Callable[..., list[Any]]

PROPERTIES = "org.freedesktop.DBus.Properties"


class BusError(HookError):
    """The bus, or who was asked on it, gave no usable answer; the message says who and why."""


class Conversation:
    """A talk that has begun: `script(call)` runs in a worker, `result()` gives what it returns.

    `call(path, interface, member, signature="", *arguments)` asks `destination` and returns the reply's body as plain
    values (variants unpacked, structures as lists). `address` is another bus than the system's. Where
    python3-dbus-next is not installed `result()` says so.
    """

    def __init__(
        self, destination: str, script: Callable[[Call], object], deadline: Deadline, address: str | None = None
    ) -> None:
        self.destination = destination
        self.deadline = deadline
        self._worker = Worker(lambda send: _talk(destination, script, deadline, send, address))

    def result(self) -> Any:
        """What the script returned. Raises BusError, at the deadline at the latest."""
        try:
            for kind, value in self._worker.messages(self.deadline):
                if kind == "answer":
                    return value
                raise BusError(f"{self.destination}: {clean(str(value))}")
        finally:
            self._worker.close()
        raise BusError(f"{self.destination} did not answer within {self.deadline.budget:.1f} s")


def _talk(
    destination: str,
    script: Callable[[Call], object],
    deadline: Deadline,
    send: Callable[[object], None],
    address: str | None,
) -> None:
    """In the worker: connect, run the script, send its result or the one line that says why there is none."""
    import asyncio

    try:
        from dbus_next.aio.message_bus import MessageBus
        from dbus_next.constants import BusType, MessageType
        from dbus_next.message import Message
    except ImportError:
        send(("problem", "python3-dbus-next is not installed"))
        return

    async def converse() -> None:
        bus = await MessageBus(address, BusType.SYSTEM).connect()  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()

        def call(path: str, interface: str, member: str, signature: str = "", *arguments: object) -> list[Any]:
            message = Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(arguments),
            )
            reply = asyncio.run_coroutine_threadsafe(bus.call(message), loop).result()
            if reply is None or reply.message_type is MessageType.ERROR:
                said = reply.body[0] if reply and reply.body else ""
                raise BusError(f"{reply.error_name if reply else 'no reply'}: {said}")
            return [_plain(value) for value in reply.body]

        send(("answer", await loop.run_in_executor(None, script, call)))

    try:
        asyncio.run(asyncio.wait_for(converse(), deadline.remaining()))
    except BusError as error:
        send(("problem", error.message))
    except asyncio.TimeoutError:
        send(("problem", f"no answer within {deadline.budget:.1f} s"))
    except (OSError, EOFError, ValueError) as error:
        send(("problem", f"the bus cannot be reached: {error}"))
    except Exception as error:  # an answer of another form than the script expects, or one that dbus-next refuses
        send(("problem", f"the talk broke off: {error!r}"))


def _plain(value: Any) -> Any:
    """A D-Bus value without its types, so that it can be marshalled."""
    if hasattr(value, "signature") and hasattr(value, "value"):
        return _plain(value.value)
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
