# SPDX-License-Identifier: GPL-2.0-or-later
"""The bubblewrap command line: what a toolchain's program sees, and as whom it runs there."""

from __future__ import annotations

import os

from go_health_hook.run.sandbox import MAX_TMP, NOBODY, Sandbox, host

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


def view(sandbox: Sandbox, argv: Sequence[str], status_fd: int) -> list[str]:
    """The bubblewrap command line for `argv` seen from inside `sandbox`."""
    h = host()
    args = [h.bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    args += ["--new-session", "--cap-drop", "ALL", "--json-status-fd", str(status_fd)]
    drop = h.as_root and (sandbox.root == "/" or os.path.exists(sandbox.root + h.setpriv))
    if drop:
        for cap in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            args += ["--cap-add", cap]
    elif h.as_root:
        # A root without util-linux: the ids are then nobody's in a user namespace only.
        args += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    binds = [*sandbox.binds, *sandbox.helpers]
    if sandbox.root == "/":
        args += ["--ro-bind", "/usr", "/usr"]
        for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
            if os.path.islink(f"/{name}"):
                args += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
            elif os.path.isdir(f"/{name}"):
                args += ["--ro-bind", f"/{name}", f"/{name}"]
        binds = [(path, path) for path in ETC if os.path.exists(path)] + binds
    else:
        args += ["--ro-bind", sandbox.root, "/"]
        # /sys too: a deployment's own is empty and cannot be written to, so there is no place in it for the cgroups.
        args += [a for d in ("var", "run", "sys") if os.path.isdir(f"{sandbox.root}/{d}") for a in ("--tmpfs", f"/{d}")]
    args += ["--proc", "/proc", "--dev", "/dev"]
    # The Go runtime looks for its quota here; the cgroup namespace stays the caller's for the same reason.
    if os.path.isdir("/sys/fs/cgroup") and os.path.isdir(f"{sandbox.root}/sys"):
        args += ["--ro-bind", "/sys/fs/cgroup", "/sys/fs/cgroup"]
    args += ["--perms", "1777"] if "--perms" in h.knows else []
    args += ["--size", str(MAX_TMP)] if "--size" in h.knows else []
    args += ["--tmpfs", "/tmp"]
    made = {"/", "/usr", "/tmp"}
    for source, target in binds:
        # Parents that bubblewrap makes on its own may be closed to nobody; those made by name are 0755.
        parents = target.strip("/").split("/")[:-1]
        if sandbox.root == "/" and not target.startswith("/usr/"):
            for i in range(1, len(parents) + 1):
                parent = "/" + "/".join(parents[:i])
                if parent not in made:
                    made.add(parent)
                    args += ["--dir", parent]
        args += ["--ro-bind", source, target]
    if sandbox.writable:
        args += ["--bind", sandbox.writable, "/tmp/writable"]
    args += ["--chdir", "/", "--"]
    if drop:
        if "--perms" not in h.knows:
            args += ["/bin/sh", "-c", 'chmod 1777 /tmp; exec "$@"', "sh"]
        args += drop_ids()
    return [*args, *argv]


def drop_ids() -> list[str]:
    """setpriv's command line that makes the kernel's own ids nobody's: --uid in a user namespace only shows that id."""
    h = host()
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    return [h.setpriv, *ids, "--inh-caps=-all"]
