package judges

import "syscall"

// deathSignal kills a child when the test's process dies.
func deathSignal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
