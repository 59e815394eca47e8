# SPDX-License-Identifier: GPL-2.0-or-later
# Stands for rpm-ostree's daemon, which Debian does not have: its name, objects and answers on a real system bus.
"""python3 rpm_ostreed.py STATE: answers as the real daemon answered, until it is killed.

The JSON file STATE is one of tests/unit/data/recorded/rpm-ostree-*.json, busctl's types and data, and may have
"misbehave": {MEMBER: how} as well. how is "never" (no answer), "slow" (an answer only after this process was sent
SIGUSR1), "error", "vanish" (gone without an answer) or "nonsense" (an answer of another type). Prints "ready" once it
has the name.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
import asyncio
import json
import os
import signal
import sys

from dbus_next import BusType, Message, MessageType, Variant
from dbus_next.aio import MessageBus

NAME = "org.projectatomic.rpmostree1"
SYSROOT = "/org/projectatomic/rpmostree1/Sysroot"
# What GLib makes of an error that has no D-Bus name of its own.
UNMAPPED = "org.gtk.GDBus.UnmappedGError.Quark._g_2dio_2derror_2dquark.Code"


def value(data):
    """busctl's JSON as dbus-next wants it: a variant is {"type": …, "data": …} there."""
    if isinstance(data, dict) and set(data) == {"type", "data"}:
        return Variant(data["type"], value(data["data"]))
    if isinstance(data, dict):
        return {key: value(entry) for key, entry in data.items()}
    return [value(entry) for entry in data] if isinstance(data, list) else data


class Daemon:
    """What the recorded daemon knows."""

    def __init__(self, state):
        self.state = state
        self.ids = [d["id"]["data"] for d in state["Sysroot.Deployments"]["data"]]
        self.path = state["Sysroot.Booted"]["data"]

    def properties(self, interface):
        """All properties of an interface that were recorded."""
        start = f"{interface.rpartition('.')[2]}."
        return {k[len(start) :]: value(v) for k, v in self.state.items() if k.startswith(start)}

    def answer(self, message):
        """The reply to a method call."""
        member, body = message.member, message.body
        if member == "GetAll":
            return Message.new_method_return(message, "a{sv}", [self.properties(body[0])])
        if member == "Get":
            return Message.new_method_return(message, "v", [self.properties(body[0])[body[1]]])
        if member == "GetOS":
            if body[0] in ("", self.state["OS.Name"]["data"]):
                return Message.new_method_return(message, "o", [self.path])
            return Message.new_error(message, f"{UNMAPPED}1", f'OS name "{body[0]}" not found')
        if member == "GetDeploymentsRpmDiff":
            unknown = [word for word in body if word not in self.ids]
            if unknown:
                return Message.new_error(message, f"{UNMAPPED}0", f"Invalid deployment id {unknown[0]}")
            diff = self.state["GetDeploymentsRpmDiff"]
            found = value(diff["data"])[0] if diff and body[0] != body[1] else []
            return Message.new_method_return(message, "a(sua{sv})", [found])
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", member)


async def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        state = json.load(file)
    misbehave = state.pop("misbehave", {})
    daemon = Daemon(state)
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()

    def call(message):
        if message.message_type is not MessageType.METHOD_CALL or not (message.path or "").startswith(
            SYSROOT.rpartition("/")[0]
        ):
            return None
        how = misbehave.get(message.member)
        if how == "slow":
            signal.sigwait([signal.SIGUSR1])
        elif how == "vanish":
            os._exit(0)
        elif how == "error":
            return Message.new_error(message, "org.projectatomic.rpmostreed.Error.Failed", "the sysroot\nis locked")
        elif how == "nonsense":
            return Message.new_method_return(message, "i", [42])
        return True if how == "never" else daemon.answer(message)

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    bus.add_message_handler(call)
    await bus.request_name(NAME)
    print("ready", flush=True)
    await bus.wait_for_disconnect()


if __name__ == "__main__":
    asyncio.run(main())
