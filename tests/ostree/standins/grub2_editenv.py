#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Stands for GRUB's grub2-editenv, which the tests' machines do not have: FILE list | set KEY=VALUE … | unset KEY ….
import sys

path, command, *words = sys.argv[1:]
try:
    with open(path, encoding="ascii") as file:
        lines = [line for line in file.read().rstrip("#").splitlines()[1:] if "=" in line]
except FileNotFoundError:
    lines = []
values = dict(line.split("=", 1) for line in lines)
if command == "list":
    print("\n".join(f"{key}={value}" for key, value in values.items()))
    sys.exit()
for word in words:
    key, _, value = word.partition("=")
    values.pop(key, None)
    if command == "set":
        values[key] = value
text = "# GRUB Environment Block\n" + "".join(f"{key}={value}\n" for key, value in values.items())
with open(path, "w", encoding="ascii") as file:
    file.write(text.ljust(1024, "#"))
