#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Stands for libostree's commands about a staged deployment, which need a machine that ostree booted. As ostree 2026.4: the
# lines of status, the answers about the lock, and that it knows nothing of a bare file. /run/staged is what is staged, and
# /run/key is the key inside the staged file. Before each command the shell in /run/stumble/COMMAND is run.
case "$*" in
"admin status --skip-signatures") what=status ;;
"admin lock-finalization") what=lock ;;
"admin lock-finalization --unlock") what=unlock ;;
"admin undeploy 0") what=undeploy ;;
"admin prepare-soft-reboot --reset") what=reset ;;
*) echo "error: Unknown command '$*'" >&2; exit 1 ;;
esac
echo $what >>/run/asked
[ ! -e /run/stumble/$what ] || . /run/stumble/$what
case $what in
status)
    mark="($([ -e /run/key ] && echo "finalization locked" || echo staged))"
    [ ! -e /run/soft ] || mark="$mark (soft-reboot)"
    [ ! -e /run/staged ] || echo "  debian $(cat /run/staged).0 $mark"
    echo "* debian aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0" ;;
lock) [ ! -e /run/key ] || { echo "Staged deployment is already locked"; exit 0; }; : >/run/key; : >/run/ostree/staged-deployment-locked ;;
unlock) [ -e /run/key ] || { echo "error: Staged deployment is already unlocked" >&2; exit 1; }; rm -f /run/key /run/ostree/staged-deployment-locked ;;
undeploy) rm -f /run/staged /run/key /run/ostree/staged-deployment-locked ;;
reset) rm -f /run/soft; while umount /run/nextroot; do :; done ;;
esac
