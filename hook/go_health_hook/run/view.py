# SPDX-License-Identifier: GPL-2.0-or-later
"""The bubblewrap command line: what a toolchain's program sees, and as whom it runs there.

As root, the first programs in a view are this machine's own, from its own /usr. They give up root's ids before anything
of the toolchain, or of another root, is executed: programs, shell and dynamic loader alike. What is not the running
root's lies below SUBJECT, and `unshare --root` of this machine enters it and changes the ids in one step.
"""

from __future__ import annotations

import os

from go_health_hook.run.pin import pin
from go_health_hook.run.sandbox import MAX_TMP, Sandbox, Unsandboxed, host
from go_health_hook.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Of /etc a program sees what loading it takes. Programs of EL's Go call OpenSSL, which finds here what is allowed on a
# machine in FIPS mode; without it they would give up there (golang-fips/openssl).
ETC = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/crypto-policies",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/tls/openssl.d",
    "/etc/pki/tls/fips_local.cnf",
)
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")
SUBJECT = "/subject"


def view(sandbox: Sandbox, marked: Sequence[str], argv: Sequence[str], status_fd: int) -> list[str]:
    """Return the bubblewrap command line for `argv` seen from inside `sandbox`.

    `marked` is put before the last program that is not of this machine's running root. Raises Unsandboxed.
    """
    h = host()
    args = [h.bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    args += ["--new-session", "--cap-drop", "ALL", "--json-status-fd", str(status_fd)]
    inner = SUBJECT if h.as_root and sandbox.needs_view else ""
    if h.as_root:
        for cap in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", *(["CAP_SYS_CHROOT"] if inner else [])):
            args += ["--cap-add", cap]
    if inner:
        args += [*_system("/", ""), "--proc", "/proc", "--dev", "/dev", "--tmpfs", inner]
    args += _system(sandbox.root, inner)
    args += ["--proc", f"{inner}/proc", "--dev", f"{inner}/dev"]
    # bubblewrap itself covers these only where it could write to them.
    args += ["--ro-bind-try", "/proc/sys", f"{inner}/proc/sys"]
    args += _cgroups(inner)
    args += ["--perms", "1777"] if "--perms" in h.knows else []
    args += ["--size", str(MAX_TMP)] if "--size" in h.knows else []
    args += ["--tmpfs", f"{inner}/tmp"]
    if sandbox.writable:
        args += ["--bind", sandbox.writable, f"{inner}/tmp/writable"]
    args += _binds(sandbox, inner)
    args += ["--chdir", "/", "--"]
    if h.as_root:
        if "--perms" not in h.knows:
            args += ["/bin/sh", "-c", f'chmod 1777 {inner}/tmp; exec "$@"', "sh"]
        args += [*_without_inherited(), *marked, *enter(inner)] if inner else [*drop_ids(), *marked]
    else:
        args += marked
    return [*args, *argv]


def _system(root: str, inner: str) -> list[str]:
    """What makes up a system without its data: /usr, and the names at the top that lead into it."""
    args: list[str] = []
    subject = Subject("root", root)
    for path in SYSTEM:
        link = subject.readlink(path)
        if link:
            args += ["--symlink", link, inner + path]
        else:
            args += [a for source, target in _shown(root, [path]) for a in ("--ro-bind", source, inner + target)]
    return args


def _shown(root: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """The (host path, path in the root) of those of `paths` that are there."""
    if root == "/":
        return [(path, path) for path in paths if os.path.exists(path)]
    if host().as_root:
        return pin(root, paths)
    # A person's own programs see no more so than the person does.
    subject = Subject("root", root)
    return [(subject.host_path(path), path) for path in paths if subject.exists(path)]


def _cgroups(inner: str) -> list[str]:
    """The Go runtime looks for its quota here; the cgroup namespace stays the caller's for the same reason.

    The directories above are made by name: those that bubblewrap makes for a bind are closed to nobody (since 0.5.0).
    """
    if not os.path.isdir("/sys/fs/cgroup"):
        return []
    path = f"{inner}/sys/fs/cgroup"
    return ["--dir", f"{inner}/sys", "--dir", f"{inner}/sys/fs", "--ro-bind", "/sys/fs/cgroup", path]


def _binds(sandbox: Sandbox, inner: str) -> list[str]:
    args: list[str] = []
    made = {"", "/tmp", "/tmp/writable", "/sys", "/proc", "/dev", *SYSTEM}
    binds = [*_shown(sandbox.root, [*ETC, *sandbox.paths]), *sandbox.binds, *sandbox.helpers]
    for source, target in binds:
        # Parents that bubblewrap makes on its own are closed to nobody; those made by name are 0755.
        parts = target.strip("/").split("/")
        parents = ["/" + "/".join(parts[:i]) for i in range(1, len(parts))]
        if parents[:1] not in ([top] for top in SYSTEM):
            for parent in parents:
                if parent not in made:
                    made.add(parent)
                    args += ["--dir", inner + parent]
        args += ["--ro-bind", source, inner + target]
    return args


def drop_ids() -> list[str]:
    """setpriv's command line that changes the kernel's own ids: --uid in a user namespace only shows an id."""
    h = host()
    ids = [f"--reuid={h.uid}", f"--regid={h.gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    return [h.setpriv, *ids, "--inh-caps=-all"]


def _without_inherited() -> list[str]:
    return [host().setpriv, "--inh-caps=-all"]


def enter(inner: str) -> list[str]:
    """The command line of this machine's `unshare` that makes `inner` the root and changes the kernel's own ids.

    It looks nothing up in between (util-linux, sys-utils/unshare.c: chroot, chdir, setgroups, setgid, setuid, execvp).
    bubblewrap has set no_new_privs, and a process in a chroot can make no user namespace (user_namespaces(7)).
    """
    h = host()
    if not h.unshare:
        raise Unsandboxed("cannot enter another root without unshare(1)", hint="install util-linux")
    return [h.unshare, f"--root={inner}", f"--setgid={h.gid}", f"--setuid={h.uid}"]
