package metrichttp

import (
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gotheus/gotheus"
)

// Compressor compresses one page after another, like *gzip.Writer. After Reset, Write and Close
// write a compressed page to the given writer.
type Compressor interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// coding is a content coding.
type coding struct {
	name string
	pool sync.Pool // of Compressor
}

// codings lists the most preferred first. gzip uses its fastest level: compressing costs far more
// than encoding, and better levels gain little on pages.
var codings atomic.Pointer[[]*coding]

var registering sync.Mutex

func init() {
	RegisterCoding("gzip", func() Compressor {
		z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		return z
	})
}

// RegisterCoding makes all handlers offer a content coding like "zstd", or replaces the one with
// that name. Clients that accept several equally get the one that was registered last.
// newCompressor is called when no idle compressor is available, possibly concurrently. Importing
// the module compress registers zstd and a faster gzip. It panics with an error that wraps
// gotheus.ErrInvalid if newCompressor is nil.
func RegisterCoding(name string, newCompressor func() Compressor) {
	if newCompressor == nil {
		panic(fmt.Errorf("%w: RegisterCoding %q: the function is nil", gotheus.ErrInvalid, name))
	}
	registering.Lock()
	defer registering.Unlock()
	c := &coding{name: name}
	c.pool.New = func() any { return newCompressor() }
	var list []*coding
	if old := codings.Load(); old != nil {
		list = slices.DeleteFunc(slices.Clone(*old), func(o *coding) bool { return o.name == name })
	}
	list = slices.Insert(list, 0, c)
	codings.Store(&list)
}
