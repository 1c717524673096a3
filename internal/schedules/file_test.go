//go:build linux && (386 || amd64 || arm64)

package schedules_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/shm"
)

// file is where the processes of many trials count, each in a series of its own.
type file struct {
	dir    string
	trials int
	empty  []byte
}

// next begins a trial and returns the label of its series.
func (f *file) next() string {
	f.trials++
	return strconv.Itoa(f.trials)
}

// open opens the file. After a hundred trials it is another one, so that pages stay short.
func (f *file) open() backend.Backend {
	name := filepath.Join(f.dir, strconv.Itoa(f.trials/100))
	if _, err := os.Stat(name + shm.Suffix); err != nil {
		if f.empty == nil {
			f.empty = empty(name)
		}
		if err := os.WriteFile(name+shm.Suffix, f.empty, 0o600); err != nil {
			panic(err)
		}
	}
	b, err := shm.OpenContext(context.Background(), name, &shm.Options{AnyFileSystem: true})
	if err != nil {
		panic(err)
	}
	return b
}

// empty returns an empty file with a small index, so that reading it has few points: FORMAT.md says
// where the number of buckets is, and that the beginning of the header is the same in all versions.
func empty(name string) []byte {
	b, err := shm.OpenContext(context.Background(), name, &shm.Options{AnyFileSystem: true, Limit: 2 << 20})
	if err == nil {
		err = b.Close(context.Background())
	}
	if err != nil {
		panic(err)
	}
	file, err := os.ReadFile(name + shm.Suffix)
	if err != nil {
		panic(err)
	}
	const buckets, sum = 56, 64
	binary.NativeEndian.PutUint32(file[buckets:], 8)
	fixed := slices.Clone(file[:sum])
	clear(fixed[:8])
	checksum := sha256.Sum256(fixed)
	copy(file[sum:sum+8], checksum[:])
	return file
}
