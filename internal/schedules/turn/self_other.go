//go:build !(386 || amd64 || arm64)

package turn

import (
	"bytes"
	"runtime"
	"strconv"
)

// self returns the number of the goroutine that has called, as the runtime prints it.
func self() uintptr {
	var buf [64]byte
	_, text, _ := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	number, _, _ := bytes.Cut(text, []byte(" "))
	n, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		panic(err)
	}
	return uintptr(n)
}
