# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual machine that ostree booted, with this tree installed in the image, and commits with other Go to stage.

There is no boot loader: what it would have booted is read out of the disk's own boot loader entries at every boot.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.installed import COMPILE, MODULES
from tests.testbed import cache, disks
from tests.testbed.vm import VM, Boot, disk_format

HERE = Path(__file__).parent
STAND_INS = HERE.parent / "ostree/standins"
BADGO = HERE.parent / "toolchains/badgo/main.go"
GOROOT = "usr/lib/golang"
RUNNING, NEWER = "1.25.5", "1.27.3"  # the Go of the deployment that is booted, and of the update


class Commit(NamedTuple):
    """One commit. `spoil` is shell, run where the overlay's files go, with $newer and $running for whole GOROOTs and
    $badgo for the go that misbehaves."""

    go: str
    spoil: str = ""


# Each is debian/NAME in the disk's repository, has this tree installed, and says its NAME in /usr/lib/testbed-commit.
COMMITS = {
    "main": Commit(RUNNING),  # what the disk boots
    "good": Commit(NEWER),
    "none": Commit(""),
    "truncated": Commit(NEWER, 'mkdir bin && head -c 5M "$newer/bin/go" >bin/go && chmod +x bin/go'),
    "other-go": Commit(NEWER, 'mkdir bin && cp "$running/bin/go" bin/go'),
    "other-compile": Commit(NEWER, 't=pkg/tool/linux_amd64 && mkdir -p $t && cp "$running/$t/compile" $t/compile'),
    "hangs": Commit(NEWER, 'mkdir bin && cp "$badgo" bin/go && echo "ignores SIGTERM" >mode'),
}

DRACUT_MODULES = (
    "base systemd systemd-initrd systemd-udevd systemd-journald systemd-tmpfiles udev-rules dracut-systemd "
    "rootfs-block fs-lib kernel-modules ostree"
)
# Where an ostree system has what is not the image's (ostreedev.github.io/ostree/adapting-existing).
LINKS = {
    "ostree": "sysroot/ostree",
    "home": "var/home",
    "root": "var/roothome",
    "srv": "var/srv",
    "opt": "var/opt",
    "mnt": "var/mnt",
    "media": "run/media",
    "usr/local": "../var/usrlocal",
}
OURS_NO_MORE = ["boot", "dev", "proc", "sys", "run", "tmp", "var", "mnt", "media", "home", "root", "srv", "opt"]
TMPFILES = "d /var/roothome 0700 root root -\nd /var/log/journal 0755 root root -\n" + "".join(
    f"d /var/{name} 0755 root root -\n" for name in ("home", "srv", "opt", "mnt", "usrlocal", "lib", "cache", "spool")
)
PREPARE_ROOT = "[sysroot]\nreadonly=true\n[composefs]\nenabled=yes\n"
KERNEL = ("root=/dev/vda", "rw", "console=ttyS0")


def caught() -> disks.Caught:
    """The machine, right after it booted debian/main: disks.Caught.wake() has it running in a second or two."""
    return disks.caught("vm-ostree", disk(), default_entry, {"cpus": 2, "memory": 2048})


def booted(vm: VM) -> str:
    """The name, as in COMMITS, of the commit that the machine is running."""
    return vm.ok("cat /usr/lib/testbed-commit")


def staged(vm: VM) -> str:
    """Where the staged deployment's root is in the machine, locked or not; nothing where none is staged."""
    status = vm.ok("ostree admin status").splitlines()
    lines = [line.split() for line in status if line.endswith(("(staged)", "(finalization locked)"))]
    return f"/ostree/deploy/{lines[0][0]}/deploy/{lines[0][1]}" if lines else ""


def disk() -> Path:
    """The disk, never to be booted but by way of an overlay: debian/main deployed, the other COMMITS next to it."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder)
        site = {"PYTHON3_SITELIB": "/usr/lib/python3/dist-packages"}  # Debian's, wherever this machine has it
        make = ["make", "--silent", "install", f"DESTDIR={ours}"]
        subprocess.run(make, cwd=cache.TREE, env={**os.environ, **site}, check=True)
        made_by = (HERE / "ostree_vm.py", HERE.parent / "installed.py")
        recipe: list[str | Path] = [repository().name, *made_by, BADGO, *sorted(STAND_INS.iterdir())]
        for path in sorted(p for p in ours.rglob("*") if p.is_file()):
            recipe += [str(path.relative_to(ours)), oct(path.lstat().st_mode), path]
        return cache.built("vm-ostree-disk", recipe, lambda new: make_disk(new, ours)) / "disk.img"


def make_disk(new: Path, ours: Path) -> None:
    from tests.toolchains.trees import build_badgo  # not where the package is built with the unit tests alone

    layer = new / "layer"
    disks.copy(ours, layer)
    compile_hook(layer)
    units = [p for p in layer.glob("usr/lib/systemd/system/*.*") if p.is_file() and "\n[Install]\n" in p.read_text()]
    if units:  # as a package's scripts do
        with_folder(new, "systemctl", "--root=/mnt/layer", "preset", *(p.name for p in units))
    if (layer / "etc").exists():
        (layer / "etc").rename(layer / "usr/etc")
    for program in STAND_INS.iterdir():  # grub2-editenv is looked for where programs are
        place = layer / ("usr/bin/grub2-editenv" if "grub2" in program.name else f"usr/lib/testbed/{program.name}")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, place)
        place.chmod(0o755)
    own(layer)
    # Objects are never written to again, so a second name for each will do.
    sysroot = new / "sysroot"
    subprocess.run(["cp", "--archive", "--link", repository() / "sysroot", sysroot], check=True)
    for name, (go, spoil) in COMMITS.items():
        overlay = new / "overlay"
        goroot = overlay / GOROOT
        goroot.mkdir(parents=True)
        given = {key: str(disks.toolchain(version)) for key, version in (("newer", NEWER), ("running", RUNNING))}
        given["badgo"] = str(build_badgo())
        subprocess.run(["bash", "-ec", spoil], cwd=goroot, env={**os.environ, **given}, check=True)
        (overlay / "usr/lib/testbed-commit").write_text(name)
        if not go:
            goroot.rmdir()
        own(overlay)
        base = ["--tree=ref=debian/base", *([f"--tree=ref=go/{go}"] if go else [])]
        commit(new, f"debian/{name}", *base, "--tree=dir=/mnt/layer", "--tree=dir=/mnt/overlay")
        cache.remove(overlay)
    arguments = [f"--karg={word}" for word in KERNEL]
    with_folder(new, "ostree", "admin", "deploy", "--sysroot=/mnt/sysroot", "--os=debian", *arguments, "debian/main")
    try:
        disks.file_system(sysroot, new / "disk.img", "10G")
    finally:  # or nobody could remove it
        for deployment in sysroot.glob("ostree/deploy/debian/deploy/*.0"):
            subprocess.run(["chattr", "-i", deployment], check=True)
    cache.remove(sysroot)
    cache.remove(layer)


def repository() -> Path:
    """A folder with a sysroot whose repository holds debian/base, the system with no Go and nothing of this tree, and
    go/VERSION, a Go in Fedora's layout."""

    def build(new: Path) -> None:
        tree, sysroot = new / "tree", new / "sysroot"
        disks.copy(disks.base(), tree)
        disks.lay_ours(tree)
        make_bootable(tree)
        lay_out(tree)
        sysroot.mkdir()
        with_folder(new, "ostree", "admin", "init-fs", "--modern", "/mnt/sysroot")
        with_folder(new, "ostree", "admin", "stateroot-init", "--sysroot=/mnt/sysroot", "debian")
        for key, value in (("sysroot.bootloader", "none"), ("sysroot.readonly", "true")):
            with_folder(new, "ostree", "config", "--repo=/mnt/sysroot/ostree/repo", "set", key, value)
        commit(new, "debian/base", "--consume", "/mnt/tree")
        for version in (RUNNING, NEWER):
            go = new / "go"
            lay_go(version, go)
            commit(new, f"go/{version}", "--consume", "/mnt/go")

    return cache.built("vm-ostree-base", [*disks.recipe(), HERE / "ostree_vm.py", RUNNING, NEWER], build)


def make_bootable(tree: Path) -> None:
    kernel = next((tree / "usr/lib/modules").iterdir())
    if not (kernel / "vmlinuz").exists():
        shutil.copy(next((tree / "boot").glob("vmlinuz-*")), kernel / "vmlinuz")
    settings = tree / "usr/lib/ostree/prepare-root.conf"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(PREPARE_ROOT)
    disks.in_root(
        tree, "env", "--unset=TMPDIR",
        "dracut", "--force", "--quiet", "--no-hostonly", "--no-hostonly-cmdline", "--zstd", "--kver", kernel.name,
        "--modules", DRACUT_MODULES, "--drivers", "virtio_blk virtio_pci ext4 erofs overlay loop",
        f"/usr/lib/modules/{kernel.name}/initramfs.img",
    )  # fmt: skip


def lay_out(tree: Path) -> None:
    """Turns a root into an ostree tree: /etc below /usr, state in /var, links where state used to be."""
    for path in (*(tree / name for name in OURS_NO_MORE), tree / "usr/local"):
        cache.remove(path)
    for link in (*tree.glob("initrd.img*"), *tree.glob("vmlinuz*")):
        link.unlink()
    for name in ("boot", "dev", "proc", "sys", "run", "var", "sysroot", "tmp"):
        (tree / name).mkdir()
    (tree / "tmp").chmod(0o1777)
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)
    (tree / "usr/lib/tmpfiles.d/testbed-var.conf").write_text(TMPFILES)
    (tree / "etc").rename(tree / "usr/etc")


def lay_go(version: str, tree: Path) -> None:
    """A Go tree as Fedora's packages lay it out, alternatives and all."""
    disks.copy_go(version, tree / GOROOT)
    settings = tree / GOROOT / "go.env"
    settings.write_text(settings.read_text().replace("GOTOOLCHAIN=auto", "GOTOOLCHAIN=local"))
    for folder in ("usr/bin", "usr/etc/alternatives"):
        (tree / folder).mkdir(parents=True)
    for name in ("go", "gofmt"):
        (tree / "usr/bin" / name).symlink_to(f"/etc/alternatives/{name}")
        (tree / "usr/etc/alternatives" / name).symlink_to(f"/{GOROOT}/bin/{name}")
    own(tree)


def own(tree: Path) -> None:
    subprocess.run(["chown", "--recursive", "--no-dereference", "0:0", tree], check=True)
    for path in (tree, *(p for p in tree.rglob("*") if p.is_dir() and not p.is_symlink())):
        path.chmod(0o755)


def with_folder(folder: Path, *command: str) -> None:
    """Runs a command of the machines' root with a folder of this machine at its /mnt."""
    script = 'mount --bind "$1" "$2/mnt"; shift\n' + disks.IN_ROOT
    subprocess.run(
        ["unshare", "--mount", "bash", "-ec", script, "bash", folder, disks.base(), *command],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def commit(folder: Path, branch: str, *trees: str) -> None:
    """Adds a commit to the folder's repository; its version is the last part of its branch."""
    name = branch.rpartition("/")[2]
    where = ["--repo=/mnt/sysroot/ostree/repo", f"--branch={branch}"]
    what = [f"--subject={name}", f"--add-metadata-string=version={name}"]
    with_folder(folder, "ostree", "commit", *where, *what, *trees)


def compile_hook(tree: Path) -> None:
    """Compile the hook's modules in an installed tree by the machines' own Python."""
    with_folder(tree, *COMPILE, "-s", "/mnt", "-p", "/", f"/mnt/{MODULES}")


def default_entry(image: Path) -> Boot:
    """What a boot loader would boot now: the entry of the highest version; its files are put next to the image."""
    folder = Path(f"{image}.boot")
    cache.remove(folder)
    folder.mkdir()
    flat = image
    if disk_format(image) != "raw":
        flat = folder / "flat"
        subprocess.run(["qemu-img", "convert", "-O", "raw", image, flat], check=True)
        # Status 1: what the machine had not put in place yet when it went off was taken from the file system's journal.
        fsck = subprocess.run(["e2fsck", "-p", flat], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert fsck.returncode in (0, 1), fsck.stdout
    link = re.search(r'Fast link dest: "(.*)"', debugfs(flat, "stat /boot/loader"))
    assert link, f"no boot loader entries on {image}"
    debugfs(flat, f"rdump /boot/{link[1]}/entries {folder}")
    fields = max((read_entry(p) for p in (folder / "entries").glob("*.conf")), key=lambda f: int(f["version"]))
    for name, key in (("vmlinuz", "linux"), ("initrd", "initrd")):
        debugfs(flat, f"dump /boot{fields[key].removeprefix('/boot')} {folder / name}")
        assert (folder / name).exists(), f"{fields[key]} is not on {image}"
    if flat != image:
        flat.unlink()
    return Boot(folder / "vmlinuz", folder / "initrd", fields["options"])


def read_entry(path: Path) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip())


def debugfs(image: Path, request: str) -> str:
    return subprocess.run(["debugfs", "-R", request, image], capture_output=True, text=True, check=True).stdout
