// Package compress adds faster and better compression to all handlers of metrichttp. Import it for
// its side effect:
//
//	import _ "github.com/gotheus/gotheus/compress"
//
// It registers zstd, for scrapers that accept it, and a gzip that is faster than the standard
// library's. It is a separate module because it depends on github.com/klauspost/compress. Levels
// were chosen with BenchmarkLevels: on pages, higher ones take much more time to save a few
// percent.
package compress

import (
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/gotheus/gotheus/metrichttp"
)

func init() {
	metrichttp.RegisterCoding("gzip", newGzip)
	metrichttp.RegisterCoding("zstd", newZstd) // registered last, so it is preferred
}

func newGzip() metrichttp.Compressor {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}

// newZstd returns a compressor without goroutines, with a window that every client supports.
func newZstd() metrichttp.Compressor {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are valid
	}
	return z
}
