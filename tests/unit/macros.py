# SPDX-License-Identifier: GPL-2.0-or-later
"""The directories that rpm's macros name, as the spec uses them."""

# From macros.systemd, macros.python3, redhat-rpm-config and rpm's platform file of Fedora and EL.
DIRECTORIES = {
    "_bindir": "/usr/bin",
    "_datadir": "/usr/share",
    "_journalcatalogdir": "/usr/lib/systemd/catalog",
    "_libexecdir": "/usr/libexec",
    "_localstatedir": "/var",
    "_mandir": "/usr/share/man",
    "_prefix": "/usr",
    "_presetdir": "/usr/lib/systemd/system-preset",
    "_rundir": "/run",
    "_sharedstatedir": "/var/lib",
    "_sysconfdir": "/etc",
    "_sysusersdir": "/usr/lib/sysusers.d",
    "_tmpfilesdir": "/usr/lib/tmpfiles.d",
    "_unitdir": "/usr/lib/systemd/system",
    "bash_completions_dir": "/usr/share/bash-completion/completions",
    "fish_completions_dir": "/usr/share/fish/vendor_completions.d",
    "zsh_completions_dir": "/usr/share/zsh/site-functions",
}
