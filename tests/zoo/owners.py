# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose a toolchain is and who may use it: Go works for those who do, and is not judged."""

from __future__ import annotations

import os
import pwd
import struct
from typing import TYPE_CHECKING

from tests.zoo.case import MOVED, NOT_JUDGED, NOT_WRITABLE, READABLE, SILENT, case
from tests.zoo.world import run

if TYPE_CHECKING:
    from tests.zoo.world import World

HARM = ("chown",)


@case("https://github.com/devcontainers/features: src/go/install.sh", NOT_JUDGED, True, never=HARM, cure=SILENT)
def devcontainer_owned_by_user_and_group(world: World) -> None:
    world.unpack()
    world.shell(
        "chown -R 1000:986 /usr/local/go; chmod -R g+r+w /usr/local/go; find /usr/local/go -type d -exec chmod g+s {} +"
    )


@case(
    "https://github.com/devcontainers/features: group write alone",
    NOT_JUDGED,
    True,
    never=HARM,
    says=("chmod -R go-w",),
    cure=NOT_WRITABLE,
)
def group_may_write(world: World) -> None:
    world.unpack()
    world.shell("chown -R 0:986 /usr/local/go; chmod -R g+w /usr/local/go")


@case(
    "everybody may write, as after `chmod -R 777`",
    NOT_JUDGED,
    True,
    never=HARM,
    says=("chmod -R go-w",),
    cure=NOT_WRITABLE,
)
def everybody_may_write(world: World) -> None:
    world.unpack()
    world.shell("chmod -R 0777 /usr/local/go")


@case("one source file that a user keeps", NOT_JUDGED, True, never=HARM, cure=SILENT)
def one_source_of_a_users(world: World) -> None:
    world.unpack()
    os.chown("/usr/local/go/src/crypto/x509/verify.go", 1000, 1000)


@case("one folder of sources that a user keeps", NOT_JUDGED, True, never=HARM)
def one_folder_of_a_users(world: World) -> None:
    world.unpack()
    os.chown("/usr/local/go/src/internal/abi", 1000, 1000)


@case("VERSION belongs to the user who unpacked it", NOT_JUDGED, True, never=HARM, cure=SILENT)
def version_file_of_a_users(world: World) -> None:
    world.unpack()
    os.chown("/usr/local/go/VERSION", 1000, 1000)


@case(
    "https://go.dev/doc/manage-install: linked from a home",
    NOT_JUDGED,
    True,
    never=("chown", "chmod -R"),
    says=("/opt",),
    cure=SILENT,
)
def linked_from_a_home(world: World) -> None:
    world.unpack("/home/alice/sdk/go1.27.3")
    world.shell("chown -R 1000:1000 /home/alice; chmod 0755 /home/alice")
    world.link("/usr/local/bin/go", "/home/alice/sdk/go1.27.3/bin/go")


@case("a link from a closed home: Go is its owner's alone", NOT_JUDGED, True, never=("chown", "chmod -R"), cure=MOVED)
def linked_from_a_closed_home(world: World) -> None:
    world.unpack("/home/alice/go")
    world.shell("chown -R 1000:1000 /home/alice; chmod 0700 /home/alice")
    world.link("/usr/local/bin/go", "/home/alice/go/bin/go")


@case("roots's own Go below a home of a user's", NOT_JUDGED, True, never=("chown", "chmod -R"))
def roots_go_below_a_home(world: World) -> None:
    world.unpack("/home/alice/tools/go")
    world.shell("chown 1000:1000 /home/alice; chmod 0755 /home/alice")
    world.link("/usr/local/bin/go", "/home/alice/tools/go/bin/go")


@case("the broken Go of a user's own: it is not for root's updates to judge", NOT_JUDGED, False, never=HARM)
def broken_go_of_a_users(world: World) -> None:
    world.unpack("/home/alice/go")
    world.write("/home/alice/go/bin/go", "", 0o755)
    world.shell("chown -R 1000:1000 /home/alice; chmod 0755 /home/alice")
    world.link("/usr/local/bin/go", "/home/alice/go/bin/go")


@case("`tar` under umask 077", NOT_JUDGED, True, user=(0, 0), says=("only root",), cure=READABLE)
def for_root_alone(world: World) -> None:
    world.unpack()
    world.shell("chmod -R go= /usr/local/go")


@case("`mkdir` under umask 027", NOT_JUDGED, True, user=(1000, 986), says=("group 986",), cure=READABLE)
def top_folder_for_a_group(world: World) -> None:
    world.unpack()
    world.shell("chown 0:986 /usr/local/go; chmod 0750 /usr/local/go")


@case("`tar` under umask 027, for a group of developers", NOT_JUDGED, True, user=(1000, 986), cure=READABLE)
def all_for_a_group(world: World) -> None:
    world.unpack()
    world.shell("chown -R 0:986 /usr/local/go; chmod -R o= /usr/local/go")


@case("only the programs are a group's", NOT_JUDGED, True, user=(1000, 986), says=("mode 0750",), cure=READABLE)
def programs_for_a_group(world: World) -> None:
    world.unpack()
    world.shell("cd /usr/local/go; chown 0:986 bin/go pkg/tool/*/*; chmod 0750 bin/go pkg/tool/*/*")


@case("only the sources are a group's", NOT_JUDGED, True, user=(1000, 986), cure=READABLE)
def sources_for_a_group(world: World) -> None:
    world.unpack()
    world.shell("cd /usr/local/go; chown -R 0:986 src; chmod -R o= src")


@case("one folder of sources is a group's", NOT_JUDGED, True, user=(1000, 986), cure=READABLE)
def one_folder_of_sources_for_a_group(world: World) -> None:
    world.unpack()
    world.shell("cd /usr/local/go/src; chown -R 0:986 crypto/x509; chmod -R o= crypto/x509")


@case("a closed folder above GOROOT, in /opt", NOT_JUDGED, True, user=(1000, 986))
def closed_folder_within_usr(world: World) -> None:
    world.unpack("/usr/local/dev/go")
    world.shell("chown 0:986 /usr/local/dev; chmod 0750 /usr/local/dev")
    world.link("/usr/local/bin/go", "../dev/go/bin/go")


@case("https://man7.org/linux/man-pages/man5/acl.5.html: an access list closes a folder of sources", NOT_JUDGED, True,
      says=("it is there for root",))  # fmt: skip
def access_list_closes_sources(world: World) -> None:
    world.unpack()
    # The owner, user nobody and the hook's own user, who get nothing, the group, the mask, others (posix_acl_xattr.h).
    users = {65534, *(entry.pw_uid for entry in pwd.getpwall() if entry.pw_name == "go-health-hook")}
    anybody = 0xFFFFFFFF
    entries = [(1, 7, anybody), *((2, 0, uid) for uid in sorted(users)), (4, 5, anybody), (16, 7, anybody)]
    text = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in [*entries, (32, 5, anybody)])
    os.setxattr("/usr/local/go/src/crypto/x509", "system.posix_acl_access", text)


@case("a mount without the right to execute", NOT_JUDGED, False)
def goroot_on_noexec(world: World) -> None:
    world.unpack()
    run("mount", "-o", "remount,bind,noexec", "/usr/local/go", check=True)
