#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# greenboot's check that this boot's Go works. It runs in a unit of its own: what the kernel kills for want of memory
# there does not end greenboot. The time limit is the unit's, since greenboot sets none.
folder=/usr/libexec/go-health-hook
test -x "$folder/only-veto" && test -x "$folder/boot-verdict" || exit 0
if test -d /run/systemd/system; then
    exec "$folder/boot-verdict"
fi
exec "$folder/only-veto" 300 boot greenboot
