// Package atomicfile replaces files as a whole.
package atomicfile

import (
	"io"
	"os"
	"path/filepath"
)

// Write replaces the file name with what write writes: readers see the old content or the new one,
// also after a crash of the machine. The new content goes to a temporary file in the same
// directory, which is then renamed. The file is readable by all users. On error, an existing file
// stays as it was.
func Write(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // has no effect after the rename
	for _, step := range []func() error{
		func() error { return write(f) },
		func() error { return f.Chmod(0o644) },
		f.Sync, // so that a crash of the machine does not leave an empty file
		f.Close,
		func() error { return os.Rename(f.Name(), name) },
	} {
		if err := step(); err != nil {
			_ = f.Close() // if it is still open
			return err
		}
	}
	return nil
}
