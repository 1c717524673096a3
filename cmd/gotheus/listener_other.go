//go:build !unix

package main

import (
	"errors"
	"net"
	"os"
	"runtime"
)

func inheritable(*net.TCPListener) (*os.File, error) {
	return nil, errors.New("the workers inherit one listener from their parent, which " + runtime.GOOS + " does not allow; the demo needs a Unix system")
}
