package gotheus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// WriteFile writes the page to a file, for instance in the directory of node_exporter's textfile
// collector, which reads names that end in .prom. It replaces the file atomically: the page is
// written to a temporary file in the same directory, which is then renamed. The file is readable by
// all users. On error, an existing file stays as it was, unless the only error is that the backend
// could not be read: then the new file has what is known.
func (r *Registry) WriteFile(ctx context.Context, name string, o *WriteOptions) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // has no effect after the rename
	w := &fileWriter{File: f}
	syncErr := r.Write(ctx, w, o)
	if syncErr != nil && (w.err != nil || ctx.Err() != nil || errors.Is(syncErr, ErrPartial) || errors.Is(syncErr, ErrStale) || errors.Is(syncErr, ErrScope)) {
		return errors.Join(syncErr, f.Close())
	}
	for _, step := range []func() error{
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
	return syncErr
}

// fileWriter remembers the error of a failed write, to tell it from an error of the backend.
type fileWriter struct {
	*os.File
	err error
}

func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}
