//go:build !linux

package judges

import "syscall"

// deathSignal has no effect here: only Linux can tell a child.
func deathSignal() *syscall.SysProcAttr { return nil }
