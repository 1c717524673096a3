// Package compress makes all handlers of metrichttp compress pages faster and better. Importing it is enough:
//
//	import _ "github.com/gotheus/gotheus/compress"
//
// It registers zstd, for scrapers that accept it, and a gzip that is faster than the standard library's. It is a
// module of its own because of what it depends on, github.com/klauspost/compress. Levels were chosen by
// BenchmarkLevels: for pages, the higher ones take much more time for a few percent.
package compress

import (
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/gotheus/gotheus/metrichttp"
)

func init() {
	metrichttp.RegisterCoding("gzip", newGzip)
	metrichttp.RegisterCoding("zstd", newZstd) // the last one is preferred
}

func newGzip() metrichttp.Compressor {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}

// newZstd returns a compressor without goroutines, with a window that any client can hold.
func newZstd() metrichttp.Compressor {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are right
	}
	return z
}
