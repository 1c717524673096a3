package judges

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus/internal/pagetest"
)

var (
	encodings = flag.Int64("encodings", 20_000, "how often TestCampaign encodes a random page")
	readings  = flag.Int64("readings", 2_000, "how often TestCampaign has the judges read a random page")
	seed      = flag.Uint64("seed", 1, "of TestCampaign's random pages")
)

// TestCampaign is FuzzEncoders and FuzzJudges without a search for new paths, which makes it about
// a hundred times faster. The long campaign:
//
//	go test -run TestCampaign -encodings 10000000 -readings 200000 -timeout 1h ./internal/judges
func TestCampaign(t *testing.T) {
	t.Parallel()
	formats := pagetest.Formats()
	var next, encoded, read atomic.Int64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			var buf []byte
			for !t.Failed() && encoded.Load() < *encodings {
				n := next.Add(1)
				p := pagetest.Random(rand.New(rand.NewPCG(*seed, uint64(n))))
				for _, f := range formats {
					buf = p.Encode(buf[:0], f)
					checkLines(t, f, buf)
					if read.Load() < *readings && judgeFormat(t, p, f) {
						read.Add(1)
					}
				}
				encoded.Add(int64(len(formats)))
			}
		}()
	}
	wait.Wait()
	t.Logf("%d pages were encoded, in all formats %d times, and read %d times", next.Load(), encoded.Load(), read.Load())
	if read.Load() < *readings && !t.Failed() {
		t.Errorf("pages were read %d times only: give more -encodings", read.Load())
	}
}
