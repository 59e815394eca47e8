# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that is laid out as bootc's composefs backend has it, and images with other Go to stage.

Images are real: made by mkcomposefs, mounted by the kernel over one object store. What boots a machine so is imitated
by `boot`: the root is mounted from "composefs:ID", and /proc/cmdline says composefs=?ID (no fs-verity here).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed import baseline, cache, disks, roots
from tests.testbed.machine import Machine, Root

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOTC = Path(__file__).parents[1] / "composefs/bootc.py"
GO = "/usr/lib/golang"
NEWER, RUNNING = "1.27.3", "1.25.5"
TOOLS = f"{GO}/pkg/tool/linux_amd64"
NEW_GO = f"rm -r .{GO} && cp -a $newer .{GO}"
# Shell, run in the image's root with $newer and $running for whole GOROOTs.
IMAGES = {
    "same": "",
    "good": NEW_GO,
    "none": f"rm -r .{GO} usr/bin/go usr/bin/gofmt",
    "truncated": f"{NEW_GO} && truncate -s 5M .{GO}/bin/go",
    "other-compile": f"{NEW_GO} && cp $running/pkg/tool/linux_amd64/compile .{TOOLS}",
    "no-crypto-tls": f"{NEW_GO} && rm -r .{GO}/src/crypto/tls",
}
OURS = {"main": "", "bad": f"truncate -s 5M .{GO}/bin/go"}
# $1 the image's name. Everything that is mounted in the machine itself stays out of it.
MAKE = r"""
set -eu
name=$1 spoil=$2 newer=/go/1.27.3 running=/go/1.25.5
mkdir -p /sysroot/composefs/images /sysroot/composefs/objects /run/make/lower /run/make/root
mount -t tmpfs make /run/make/root
mkdir /run/make/root/upper /run/make/root/work /run/make/root/tree
mount --bind / /run/make/lower
mount -t overlay -o "lowerdir=/run/make/lower,upperdir=/run/make/root/upper,workdir=/run/make/root/work" x \
    /run/make/root/tree
cd /run/make/root/tree
rm -rf sysroot/* run/* var/* proc/* sys/* tmp/* go srv/* root/.[a-z]* usr/lib/testbed-image
echo "$name" >usr/lib/testbed-image
eval "$spoil"
mkcomposefs --print-digest --digest-store=/sysroot/composefs/objects . /run/make/root/image >/run/make/root/digest
# bootc's digests are SHA-512, mkcomposefs' SHA-256: the same twice has the right form.
digest=$(cat /run/make/root/digest)
id=$digest$digest
cp /run/make/root/image "/sysroot/composefs/images/$id"
state=/sysroot/state/deploy/$id
mkdir -p "$state" /sysroot/state/os/default/var
cp -a etc "$state/etc"
ln -s ../../os/default/var "$state/var"
reference=ostree-unverified-image:docker://example.com/$name
printf '[origin]\ncontainer-image-reference = %s\n' "$reference" >"$state/$id.origin"
cd /
umount /run/make/root/tree /run/make/lower
umount --lazy /run/make/root
echo "$id"
"""
# $1 the id. The store of the machine's first root becomes /sysroot of the new one.
BOOT = r"""
import ctypes, os, sys
sys.path.insert(0, "/usr/lib/go-health-hook")
from go_health_hook.run import kernel_calls as k

id, old = sys.argv[1], ""
top = "/run/boot"
for name in ("erofs", "root"):
    os.makedirs(f"{top}/{name}")
k.mount(f"/sysroot/composefs/images/{id}", f"{top}/erofs", "erofs", k.RDONLY, None)
store = "/sysroot/composefs/objects"
options = f"lowerdir={top}/erofs::{store},metacopy=on,redirect_dir=on"
k.mount(f"composefs:{id}", f"{top}/root", "overlay", k.RDONLY, options)
root = f"{top}/root"
for source, target in (
    ("/sysroot", "sysroot"),
    (f"/sysroot/state/deploy/{id}/etc", "etc"),
    ("/sysroot/state/os/default/var", "var"),
    ("/sysroot/boot", "boot"),
):
    k.mount(source, f"{root}/{target}", None, k.BIND | k.REC, None)
for kind, target in (("proc", "proc"), ("tmpfs", "run"), ("tmpfs", "tmp"), ("tmpfs", "srv")):
    k.mount(kind, f"{root}/{target}", kind, 0, None)
for target in ("sys", "dev"):
    k.mount(f"/{target}", f"{root}/{target}", None, k.BIND | k.REC, None)
os.makedirs(f"{root}/run/old")
with open(f"{root}/run/cmdline", "w") as file:
    file.write(f"root=/dev/vda rw composefs=?{id}\n")
k.mount(f"{root}/run/cmdline", f"{root}/proc/cmdline", None, k.BIND, None)
os.chdir(root)
# pivot_root(2), which no library has; on x86-64 it is number 155.
if ctypes.CDLL(None, use_errno=True).syscall(155, b".", b"run/old"):
    raise OSError(ctypes.get_errno(), "pivot_root")
k.detach("/run/old")
"""


def store() -> Root:
    """A root with an object store in /sysroot that has every image of IMAGES, named in /sysroot/images.json."""

    def make(machine: Machine) -> None:
        made = {}
        for name, spoil in IMAGES.items():
            made[name] = machine.run(["bash", "-c", MAKE, "make", name, spoil]).stdout.split()[-1]
        machine.write("/sysroot/images.json", json.dumps(made))

    recipe = [MAKE, *(f"{name}={spoil}" for name, spoil in IMAGES.items())]

    def change(machine: Machine) -> None:
        bind_go(machine)
        make(machine)

    return roots.derived("composefs-store", baseline.with_go("forky"), recipe, change)


def bind_go(machine: Machine) -> None:
    """Copy the toolchains that images are made from to the machine's /go, in memory."""
    machine.run("mkdir -p /go && mount -t tmpfs go /go")
    for version in (NEWER, RUNNING):
        shutil.copytree(disks.toolchain(version), machine.path(f"/go/{version}"), symlinks=True)


def system() -> Root:
    """The store, with two images that have this tree's packages and are booted: OURS."""

    def change(machine: Machine) -> None:
        machine.write("/usr/bin/bootc", BOOTC.read_text(), 0o755)
        made = json.loads(machine.read("/sysroot/images.json"))
        for name, spoil in OURS.items():
            made[name] = machine.run(["bash", "-c", MAKE, "make", name, spoil]).stdout.split()[-1]
        machine.write("/sysroot/images.json", json.dumps(made))

    hooked = baseline.with_hook("forky", store())
    return roots.derived("composefs-system", hooked, [MAKE, BOOTC, *OURS.values()], change)


def repository() -> Path:
    """The folder with images and objects of both roots: an image that is a file is mounted from no overlay."""
    layers = [root.layers[0] for root in (store(), system())]

    def build(new: Path) -> None:
        for layer in layers:
            subprocess.run(["cp", "--archive", "--link", f"{layer}/sysroot/composefs/.", new], check=True)

    return cache.built("composefs-repository", [layer.parent.name for layer in layers], build)


def booted(name: str = "main", previous: str = "same") -> Iterator[tuple[Machine, dict[str, str]]]:
    """Yield a machine that runs the image `name` of OURS, with `previous` as its rollback; and all images' ids."""
    with Machine(system(), {"/sysroot/composefs": repository()}) as machine:
        images: dict[str, str] = json.loads(machine.read("/sysroot/images.json"))
        machine.write("/sysroot/boot/loader/entries", f"{images[name]}\n{images[previous]}\n")
        machine.run(["python3", "-c", BOOT, images[name]])
        yield machine, images
