# SPDX-License-Identifier: GPL-2.0-or-later
"""Signs that a GOROOT's sources are of several releases or not whole, found by reading them: cheap, and no proof.

An archive unpacked over an older release leaves the older one's files in place. `go list` and all tools are content;
compiling fails, since names are declared twice or are gone. So it does where a file is missing or was cut short. The
compiler gives the proof where there is a sign.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from go_health_hook.go import trust
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from go_health_hook.deadline import Deadline
    from go_health_hook.subject import Subject

# What `go list` is to print of each package: its import path, and the files that build for this platform.
FORMAT = "{{.ImportPath}}{{range .GoFiles}} {{.}}{{end}}"
FILE_MAX = 8 << 20
# gofmt puts a declaration at the beginning of a line, and each one of a block behind one tab.
DECLARED = re.compile(
    rb"\n(?:func (?:\((?:\w+ )?\*?(\w+)(?:\[[^\]\n]*\])?\) )?(\w+)"
    rb"|(?:var|const|type) (?:(\w+(?:, \w+)*)|\(\n((?:[^)\n][^\n]*\n|\n)*)\)))"
)
IN_BLOCK = re.compile(rb"^\t(\w+(?:, \w+)*)", re.MULTILINE)
IMPORTED = re.compile(rb'\n(?:import |\t)(?:(\w+|\.) )?"([^"\n]+)"')
ALL_NAMES = re.compile(rb'\n(?:import |\t)\. "')
COMMENT = re.compile(rb"//[^\n]*|/\*.*?\*/", re.DOTALL)
# Names of the package's own that its code uses in these ways: each pattern begins with text, by which it is fast.
USES = tuple(
    re.compile(pattern)
    for pattern in (
        rb"\*([A-Z]\w+)",
        rb"&([A-Z]\w+)\{",
        rb"return ([a-z]\w*)\(",
        rb":= ([a-z]\w*)\(",
        rb"\tif ([a-z]\w*)\(",
        rb"\tif !([a-z]\w*)\(",
    )
)
# What needs no declaration (go/types, universe.go), and words that a parenthesis may follow.
UNIVERSE = frozenset(
    b"any append bool byte cap clear close complex complex128 complex64 copy delete error float32 float64 imag int "
    b"int16 int32 int64 int8 len make max min new panic print println real recover rune string uint uint16 uint32 "
    b"uint64 uint8 uintptr chan func interface map struct".split()
)
RELEASE = re.compile(rb"\nconst Version = (\d+)")
EXPORTED = re.compile(rb"[A-Z]\w*")
# What stands before a name that is no package's: a longer name, or what a field or method is selected of.
NO_ALIAS_AFTER = frozenset(bytes([byte]) for byte in range(128) if chr(byte).isalnum() or chr(byte) in "_.)]")
NO_NAMES = (b"_", b"init")


class Signs(Record):
    """What reading the sources has shown.

    twice     packages with a name that two of their files declare: {import path: one line}
    missing   packages that use a name which the package they import does not declare: {import path: one line}
    partial   packages behind the runtime with a file that ends within a line, or whose code uses a name that none of
              their files declares: {import path: (that name or "", one line)}
    foreign   why others than root can change one of the files read, or None
    complete  whether all were read in time
    """

    twice: dict[str, str] = {}
    missing: dict[str, str] = {}
    partial: dict[str, tuple[str, str]] = {}
    foreign: trust.Hindrance | None = None
    complete: bool = True


class _Package(Record):
    declared: dict[bytes, str] = {}  # "Receiver.name" or ".name": the file
    uses: dict[tuple[str, bytes], str] = {}  # (import path, name): the file


def parse_listing(text: str) -> list[tuple[str, list[str]]]:
    """Return the packages that `go list -f FORMAT` printed, with their files."""
    lines = [line.split(" ") for line in text.splitlines() if line]
    return [(words[0], words[1:]) for words in lines]


def read_signs(
    subject: Subject, goroot: str, packages: Sequence[tuple[str, list[str]]], last_of_runtime: str, deadline: Deadline
) -> Signs:
    """Read the sources of `packages`, in the order of their dependence, for signs of several releases.

    What they use of each other is compared up to `last_of_runtime`: that is what every program is built of. Behind it,
    only files in the page cache are read, since a disk may be slow. Files that cannot be read are left out.
    """
    signs = Signs()
    known: dict[str, _Package] = {}
    comparing = True
    for path, files in packages:
        if deadline.expired:
            signs.complete = False
            break
        package = _Package()
        texts: list[bytes] = []
        for name, data in _texts(subject, f"{goroot}/src/{path}", files, signs, from_disk=comparing):
            code = COMMENT.sub(b"", data) if comparing or b"/*" in data else data
            again = _declare(package, name, code)
            if again:
                signs.twice.setdefault(path, again)
            if comparing:
                _use(package, name, code)
                continue
            texts.append(data)
            if not data.endswith(b"\n") or b"\0" in data:
                signs.partial.setdefault(path, ("", f"{clean(name)} ends within a line"))
        if comparing:
            known[path] = package
        elif len(texts) == len(files):
            undeclared = clean(_undeclared(package, texts))
            if undeclared:
                what = f"no file of {clean(path)} declares {undeclared}, which its code uses"
                signs.partial.setdefault(path, (undeclared, what))
        comparing = comparing and path != last_of_runtime
    for path, package in known.items():
        for (imported, used), file in package.uses.items():
            other = known.get(imported)
            if other is not None and b"." + used not in other.declared:
                what = f"{clean(file)} uses {clean(used)} of {imported}, which does not have it"
                signs.missing.setdefault(path, what)
    return signs


def release_of(subject: Subject, goroot: str) -> int | None:
    """Return the minor number of the release that the sources are of, or None (internal/goversion, since Go 1.12)."""
    texts = dict(_texts(subject, f"{goroot}/src/internal/goversion", ["goversion.go"], Signs()))
    found = RELEASE.search(texts.get("goversion.go", b""))
    return int(found.group(1)) if found else None


def _texts(
    subject: Subject, directory: str, files: Sequence[str], signs: Signs, from_disk: bool = True
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the text of each file that can be read, a line's end before it."""
    root = os.geteuid() == 0
    try:
        place, untrusted = subject.open_checked(directory)
        if root and untrusted and not signs.foreign:
            signs.foreign = trust.changeable(subject, [directory])
    except OSError:
        return
    try:
        for name in files:
            try:
                fd = _open(subject, directory, place, name)
            except OSError:
                continue
            try:
                info = os.fstat(fd)
                if root and not signs.foreign and _changeable(info):
                    signs.foreign = trust.changeable(subject, [f"{directory}/{name}"])
                if stat.S_ISREG(info.st_mode) and (from_disk or _is_cached(fd, info.st_size)):
                    yield name, b"\n" + _content(fd, info.st_size)
            except OSError:
                continue
            finally:
                os.close(fd)
    finally:
        os.close(place)


def _open(subject: Subject, directory: str, place: int, name: str) -> int:
    """Return a descriptor of a file in the open directory `place`. Raises OSError."""
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=place)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return subject.open(f"{directory}/{name}")


def _content(fd: int, size: int) -> bytes:
    """Return what an open file of that size has, FILE_MAX bytes at most. Raises OSError."""
    content = os.read(fd, min(size, FILE_MAX))
    while len(content) < FILE_MAX:  # it may have grown
        more = os.read(fd, min(1 << 16, FILE_MAX - len(content)))
        if not more:
            break
        content += more
    return content


def _is_cached(fd: int, size: int) -> bool:
    """Whether the end of a file is in the page cache, where that can be told (preadv2(2), RWF_NOWAIT)."""
    try:
        return size == 0 or os.preadv(fd, [bytearray(1)], size - 1, os.RWF_NOWAIT) == 1
    except (BlockingIOError, AttributeError):
        return False
    except OSError:
        return True


def _changeable(info: os.stat_result) -> bool:
    """Whether it is worth asking who can change a file."""
    return info.st_uid != 0 or bool(info.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _declare(package: _Package, file: str, code: bytes) -> str:
    """Note what a file declares; return, in one line, a name that another file of the package has declared."""
    again = ""
    for receiver, function, names, block in DECLARED.findall(code):
        if function:
            keys = [receiver + b"." + function]
        else:
            lists = [names] if names else IN_BLOCK.findall(block)
            keys = [b"." + name for each in lists for name in each.split(b", ")]
        for key in keys:
            if key[1:] in NO_NAMES or key.endswith(b"._"):
                continue
            other = package.declared.setdefault(key, file)
            if other != file and not again:
                again = f"{clean(key.lstrip(b'.'))} is declared in {clean(other)} and in {clean(file)}"
    return again


def _undeclared(package: _Package, texts: Sequence[bytes]) -> bytes:
    """Return a name that the code of a package uses as its own and that none of its files declares, or nothing.

    One that stands in any other way in the code, as a parameter or a variable does, is left aside. So is a package that
    imports all names of another one.
    """
    known = {key.rpartition(b".")[2] for key in package.declared} | UNIVERSE
    if not _used(texts) - known or any(ALL_NAMES.search(text) for text in texts):
        return b""
    code = [COMMENT.sub(b"", text) for text in texts]
    return min((n for n in _used(code) - known if not any(_stands_alone(n, text) for text in code)), default=b"")


def _used(texts: Sequence[bytes]) -> set[bytes]:
    return {name for text in texts for pattern in USES for name in pattern.findall(text)}


def _stands_alone(name: bytes, text: bytes) -> bool:
    """Whether a name stands in a text neither behind one of ".*&" nor before one of "({", nor as that of a field."""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        before, after = text[at - 1 : at], text[end : end + 1]
        field = before == b"\t" and b"=" not in text[end : text.find(b"\n", end)]
        if not (field or before.isalnum() or before in b"_.*&" or after.isalnum() or after in b"_({"):
            return True
        at = text.find(name, end)
    return False


def _use(package: _Package, file: str, code: bytes) -> None:
    """Note which names of which imported packages a file uses."""
    head = code[: code.find(b"\nfunc ")] if b"\nfunc " in code else code
    imports = {
        alias or path.rpartition(b"/")[2]: os.fsdecode(path)
        for alias, path in IMPORTED.findall(head)
        if alias not in (b"_", b".")
    }
    for alias, path in imports.items():
        # An expression for each file's own imports would be compiled once for each of them, which takes longer.
        parts = code.split(alias + b".")
        for before, after in zip(parts, parts[1:]):
            name = EXPORTED.match(after)
            if name and before[-1:] not in NO_ALIAS_AFTER:
                package.uses.setdefault((path, name[0]), file)
