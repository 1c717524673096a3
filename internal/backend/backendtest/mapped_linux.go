package backendtest

import (
	"os"
	"syscall"
	"unsafe"
)

// MapFile maps a file, which it creates if necessary, as a T. Processes that a test kills leave
// there what they have done: what they have written is in the file at once. T must consist of
// atomic numbers. The mapping lasts until the process ends.
func MapFile[T any](path string) (*T, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(*new(T)))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(m))), nil
}
