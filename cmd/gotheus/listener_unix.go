//go:build unix

package main

import (
	"net"
	"os"
	"syscall"
)

// inheritable returns the listener as a file for child processes. The result of its method File
// would not do: each time a child is started with that, the listener is switched to blocking mode,
// for all processes that have it, and a goroutine in accept can no longer be stopped.
func inheritable(l *net.TCPListener) (*os.File, error) {
	conn, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = conn.Control(func(old uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, dupErr = syscall.Dup(int(old)); dupErr == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("dup", dupErr)
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}
