//go:build !linux

package main

import "syscall"

// deathSignal has no effect here: only Linux can tell a child.
func deathSignal() *syscall.SysProcAttr { return nil }
