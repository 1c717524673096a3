package gotheus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// WriteFile writes the page to a file, such as one in the directory that node_exporter's textfile
// collector reads, which takes names that end in .prom. The file is there as a whole or not at all:
// the page goes to a file beside it, which then takes its place. Everybody may read it. On error,
// the file that was there stays, unless the only error is that the backend cannot be read: then the
// file has what is known.
func (r *Registry) WriteFile(ctx context.Context, name string, o *WriteOptions) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	w := &fileWriter{File: f}
	syncErr := r.Write(ctx, w, o)
	if syncErr != nil && (w.err != nil || ctx.Err() != nil || errors.Is(syncErr, ErrPartial) || errors.Is(syncErr, ErrStale) || errors.Is(syncErr, ErrScope)) {
		return errors.Join(syncErr, f.Close())
	}
	for _, step := range []func() error{
		func() error { return f.Chmod(0o644) },
		f.Sync, // a crash of the machine must not leave an empty file
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

// fileWriter remembers whether writing failed.
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
