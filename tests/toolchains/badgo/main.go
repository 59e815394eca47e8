// SPDX-License-Identifier: GPL-2.0-or-later

// Command badgo stands in bin/go's place and misbehaves in the way that the file `mode` in its GOROOT names.
package main

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

const version = "go version go1.27.3 linux/amd64\n"

func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func main() {
	self, _ := os.Executable()
	mode, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(self)), "mode"))
	switch strings.TrimSpace(string(mode)) {
	case "hangs":
		forever()
	case "hangs and says so":
		told, err := os.OpenFile(filepath.Join(filepath.Dir(filepath.Dir(self)), "told"), os.O_WRONLY, 0)
		if err != nil {
			os.Exit(1)
		}
		told.WriteString("hanging\n")
		forever()
	case "ignores SIGTERM":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		forever()
	case "forks and leaves":
		if len(os.Args) > 1 && os.Args[1] == "stray" {
			forever()
		}
		stray := exec.Command(self, "stray")
		stray.Stdout, stray.Stderr = os.Stdout, os.Stderr
		stray.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := stray.Start(); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString(version)
	case "prints 1 GB":
		block := []byte(strings.Repeat("0123456789abcdef", 1<<16))
		for i := 0; i < 1024; i++ {
			os.Stdout.Write(block)
		}
	case "prints non-UTF-8":
		os.Stdout.WriteString("go version \xff\xfe\x1b[31mgo1.27.3\n")
	case "eats memory":
		var eaten [][]byte
		for {
			block := make([]byte, 64<<20)
			for i := range block {
				block[i] = 1
			}
			eaten = append(eaten, block)
		}
	case "crashes by signal":
		// One that a program sends itself; SIGKILL would be the OOM killer's.
		signal.Reset()
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		time.Sleep(time.Minute)
	case "answers late":
		time.Sleep(10 * time.Minute)
		os.Stdout.WriteString(version)
	case "error beside its version":
		os.Stderr.WriteString("go: cannot find GOROOT directory: 'go' binary is trimmed and GOROOT is not set\n")
		os.Stdout.WriteString(version)
	case "lives elsewhere":
		if len(os.Args) > 1 && os.Args[1] == "env" {
			os.Stdout.WriteString("/elsewhere\ngo1.27.3\n/elsewhere/pkg/tool/linux_amd64\n")
			return
		}
		os.Stdout.WriteString(version)
	case "tries to get out":
		os.Stdout.WriteString(escape())
	case "says where it is":
		// What a program of the toolchain may see and do: the test reads it from the finding's evidence.
		status, _ := os.ReadFile("/proc/self/status")
		for _, line := range strings.Split(string(status), "\n") {
			for _, name := range []string{"Uid:", "Gid:", "Groups:", "CapEff:", "NoNewPrivs:"} {
				if strings.HasPrefix(line, name) {
					os.Stdout.WriteString(strings.Join(strings.Fields(line), " ") + " ")
				}
			}
		}
		_, shadow := os.ReadFile("/etc/shadow")
		write := os.WriteFile("/usr/written", nil, 0o644)
		// Those of its own network namespace; /sys, which it may not see at all, would say nothing.
		links, _ := os.ReadFile("/proc/self/net/dev")
		os.Stdout.WriteString("shadow=" + boolean(shadow == nil) + " write=" + boolean(write == nil))
		for _, line := range strings.Split(string(links), "\n") {
			if name, _, found := strings.Cut(line, ":"); found {
				os.Stdout.WriteString(" net=" + strings.TrimSpace(name))
			}
		}
		var names []string
		for _, variable := range os.Environ() {
			if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "GO") {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		os.Stdout.WriteString(" env=" + strings.Join(names, ",") + ";" + os.Getenv("GOTOOLCHAIN") + ";" + os.Getenv("GOENV"))
	}
}

func boolean(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
