// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

func write(path string) func() error {
	return func() error { return os.WriteFile(path, []byte("1"), 0o644) }
}

func open(path string) func() error {
	return func() error {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			file.Close()
		}
		return err
	}
}

func call(number uintptr, arguments ...uintptr) func() error {
	return func() error {
		a := append(arguments, 0, 0, 0, 0, 0, 0)
		if _, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

func text(s string) uintptr {
	p, _ := syscall.BytePtrFromString(s)
	return uintptr(unsafe.Pointer(p))
}

// Ways out of a view, by name; each returns nil where it succeeds.
var escapes = map[string]func() error{
	"write /":                   write("/written"),
	"write /usr":                write("/usr/written"),
	"write /usr/bin":            write("/usr/bin/written"),
	"write /usr/lib":            write("/usr/lib/written"),
	"write /usr/lib/golang":     write("/usr/lib/golang/written"),
	"write /etc":                write("/etc/written"),
	"write ld.so.preload":       write("/etc/ld.so.preload"),
	"write /var":                write("/var/written"),
	"write /run":                write("/run/written"),
	"write /home":               write("/home/written"),
	"write /dev":                write("/dev/written"),
	"write /proc":               write("/proc/written"),
	"write core_pattern":        write("/proc/sys/kernel/core_pattern"),
	"write hostname":            write("/proc/sys/kernel/hostname"),
	"write modprobe":            write("/proc/sys/kernel/modprobe"),
	"write sysrq-trigger":       open("/proc/sysrq-trigger"),
	"write /sys":                write("/sys/written"),
	"write uevent_helper":       write("/sys/kernel/uevent_helper"),
	"write cgroup.procs":        open("/sys/fs/cgroup/cgroup.procs"),
	"write cgroup v1 procs":     open("/sys/fs/cgroup/cpu/cgroup.procs"),
	"make a cgroup":             func() error { return os.Mkdir("/sys/fs/cgroup/made", 0o755) },
	"make a v1 cgroup":          func() error { return os.Mkdir("/sys/fs/cgroup/cpu/made", 0o755) },
	"write memory of init":      open("/proc/1/mem"),
	"write root of init":        write("/proc/1/root/tmp/written"),
	"write cwd of init":         write("/proc/1/cwd/written"),
	"lower oom_score_adj":       func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0o644) },
	"open /dev/mem":             open("/dev/mem"),
	"open /dev/kmsg":            open("/dev/kmsg"),
	"open /dev/sda":             open("/dev/sda"),
	"open /dev/vda":             open("/dev/vda"),
	"make a device":             func() error { return syscall.Mknod("/tmp/device", syscall.S_IFBLK|0o600, 8<<8) },
	"chmod /usr/bin":            func() error { return os.Chmod("/usr/bin", 0o777) },
	"chown /usr/bin":            func() error { return os.Chown("/usr/bin", 65534, 65534) },
	"remove a program":          func() error { return os.Remove("/usr/bin/go") },
	"rename a program":          func() error { return os.Rename("/usr/lib/golang/bin/go", "/usr/lib/golang/bin/gone") },
	"truncate its own file":     func() error { return os.Truncate("/usr/lib/golang/bin/go", 0) },
	"hard link to the outside":  func() error { return os.Link("/usr/lib/golang/mode", "/usr/lib/golang/linked") },
	"extended attribute":        func() error { return syscall.Setxattr("/usr/lib/golang/mode", "user.x", []byte("1"), 0) },
	"mount a tmpfs":             func() error { return syscall.Mount("none", "/tmp", "tmpfs", 0, "") },
	"remount /usr writable":     func() error { return syscall.Mount("", "/usr", "", syscall.MS_REMOUNT|syscall.MS_BIND, "") },
	"unmount /usr":              func() error { return syscall.Unmount("/usr", syscall.MNT_DETACH) },
	"pivot_root":                func() error { return syscall.PivotRoot("/tmp", "/tmp") },
	"chroot":                    func() error { return syscall.Chroot("/tmp") },
	"namespace of users":        call(syscall.SYS_UNSHARE, syscall.CLONE_NEWUSER|syscall.CLONE_NEWNS),
	"namespace of mounts":       call(syscall.SYS_UNSHARE, syscall.CLONE_NEWNS),
	"namespace of init":         enter("/proc/1/ns/mnt"),
	"become root":               call(syscall.SYS_SETRESUID, 0, 0, 0),
	"become group root":         call(syscall.SYS_SETRESGID, 0, 0, 0),
	"further groups":            func() error { return syscall.Setgroups([]int{0}) },
	"trace init":                call(syscall.SYS_PTRACE, 16, 1),
	"kill init":                 call(syscall.SYS_KILL, 1, 9),
	"set the host name":         func() error { return syscall.Sethostname([]byte("taken")) },
	"set the clock":             func() error { return syscall.Settimeofday(&syscall.Timeval{Sec: 1}) },
	"load a module":             call(syscall.SYS_INIT_MODULE, text("x"), 1, text("")),
	"swap":                      call(syscall.SYS_SWAPON, text("/tmp/swap"), 0),
	"another process's stdin":   open("/proc/1/fd/0"),
	"a descriptor left open":    leftOpen,
	"a connection to the world": connect,
}

func enter(path string) func() error {
	return func() error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		return call(308, file.Fd(), 0)() // setns, x86-64; elsewhere another call that is refused
	}
}

// leftOpen looks for a descriptor beyond the standard streams that leads to a file or directory outside.
func leftOpen() error {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, name := range names {
		number, _ := strconv.Atoi(name.Name())
		target, err := os.Readlink("/proc/self/fd/" + name.Name())
		if err == nil && number > 2 && strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/proc/") {
			return nil
		}
	}
	return errors.New("none")
}

func connect() error {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return syscall.Connect(socket, &syscall.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 1}})
}

// escape tries every way and says in one line which ones succeeded.
func escape() string {
	succeeded := []string{}
	for name, try := range escapes {
		if try() == nil {
			succeeded = append(succeeded, name)
		}
	}
	return "tried=" + strconv.Itoa(len(escapes)) + " succeeded=" + strings.Join(succeeded, ",") + ";\n"
}
