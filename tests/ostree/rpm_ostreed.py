# SPDX-License-Identifier: GPL-2.0-or-later
# Stands for rpm-ostree's daemon, which Debian does not have: its name, objects and types on a real system bus.
"""python3 rpm_ostreed.py STATE: serves what the JSON file STATE says, until it is killed.

Written from the published interface, org.projectatomic.rpmostree1.xml. STATE: {"deployments": [{…}], "diff": [[name,
type, {"PreviousPackage": [name, evr, arch], …}]], "cached": {"rpm-diff": {…}}, "misbehave": {MEMBER: how}}; how is
"never" (no answer), "slow" (an answer only after this process was sent SIGUSR1), "error", "vanish" (gone without an
answer) or "nonsense" (an answer of another type). Prints "ready" once it has the name.
"""

# No __future__ annotations here: dbus-next reads D-Bus types out of them.
# ruff: noqa: F722, F821
# mypy: disable-error-code="name-defined, valid-type, no-untyped-def, no-untyped-call"
import asyncio
import json
import os
import signal
import sys

from dbus_next import BusType, Message, MessageType, PropertyAccess, Variant
from dbus_next.aio import MessageBus
from dbus_next.service import ServiceInterface, dbus_property, method

NAME = "org.projectatomic.rpmostree1"
SYSROOT = "/org/projectatomic/rpmostree1/Sysroot"
OS = "/org/projectatomic/rpmostree1/fedora"
SIGNATURES = {"serial": "i", "timestamp": "t"}
DIFF = {"upgraded": "a(us(ss)(ss))", "downgraded": "a(us(ss)(ss))", "removed": "a(usss)", "added": "a(usss)"}


def deployment(entry):
    """A deployment as a{sv}."""
    kinds = {str: "s", bool: "b", int: "u"}
    return {key: Variant(SIGNATURES.get(key) or kinds[type(value)], value) for key, value in entry.items()}


class Sysroot(ServiceInterface):
    """/org/projectatomic/rpmostree1/Sysroot."""

    def __init__(self, state):
        super().__init__(f"{NAME}.Sysroot")
        self.state = state

    @dbus_property(access=PropertyAccess.READ)
    def Booted(self) -> "o":
        return OS if any(d.get("booted") for d in self.state["deployments"]) else "/"

    @dbus_property(access=PropertyAccess.READ)
    def Path(self) -> "s":
        return "/"

    @dbus_property(access=PropertyAccess.READ)
    def ActiveTransaction(self) -> "(sss)":
        return self.state.get("transaction", ["", "", ""])

    @dbus_property(access=PropertyAccess.READ)
    def ActiveTransactionPath(self) -> "s":
        return ""

    @dbus_property(access=PropertyAccess.READ)
    def AutomaticUpdatePolicy(self) -> "s":
        return "stage"

    @dbus_property(access=PropertyAccess.READ)
    def Deployments(self) -> "aa{sv}":
        return [deployment(d) for d in self.state["deployments"]]

    @method()
    def GetOS(self, name: "s") -> "o":
        return OS


class Os(ServiceInterface):
    """The object of one OS (a stateroot)."""

    def __init__(self, state):
        super().__init__(f"{NAME}.OS")
        self.state = state

    @dbus_property(access=PropertyAccess.READ)
    def Name(self) -> "s":
        return "fedora"

    @dbus_property(access=PropertyAccess.READ)
    def CachedUpdate(self) -> "a{sv}":
        diff = self.state.get("cached", {}).get("rpm-diff")
        if diff is None:
            return {}
        return {"rpm-diff": Variant("a{sv}", {kind: Variant(DIFF[kind], found) for kind, found in diff.items()})}

    @dbus_property(access=PropertyAccess.READ)
    def HasCachedUpdateRpmDiff(self) -> "b":
        return "rpm-diff" in self.state.get("cached", {})

    @method()
    def GetDeploymentsRpmDiff(self, deployid0: "s", deployid1: "s") -> "a(sua{sv})":
        return [
            [name, kind, {key: Variant("(sss)", package) for key, package in options.items()}]
            for name, kind, options in self.state.get("diff", [])
        ]


async def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        state = json.load(file)
    misbehave = state.get("misbehave", {})
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()

    def first(message):
        how = misbehave.get(message.member) if message.message_type is MessageType.METHOD_CALL else None
        if how == "slow":
            signal.sigwait([signal.SIGUSR1])
        elif how == "vanish":
            os._exit(0)
        elif how == "error":
            return Message.new_error(message, f"{NAME}.Error.Failed", "the sysroot\nis locked")
        elif how == "nonsense":
            return Message.new_method_return(message, "i", [42])
        return how == "never" or None

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    bus.add_message_handler(first)
    bus.export(SYSROOT, Sysroot(state))
    bus.export(OS, Os(state))
    await bus.request_name(NAME)
    print("ready", flush=True)
    await bus.wait_for_disconnect()


if __name__ == "__main__":
    asyncio.run(main())
