//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

var golden = flag.Bool("golden", false, "make testdata/v2.gz anew: only before that version is released")

const goldenFile = "testdata/v2.gz"

// goldenFamilies returns families of each kind and the words of their series.
func goldenFamilies() map[string]*backend.Family {
	return map[string]*backend.Family{
		`code="200",method="GET"`:  requests,
		`path="/a\"b\\c\n"`:        {Name: "size_bytes", Help: "Size.", Unit: "bytes", Kind: backend.Histogram, Buckets: []float64{1, 2.5}, Labels: []string{"path"}},
		``:                         {Name: "temperature", Help: "Temperature.", Kind: backend.Gauge},
		`job="x"`:                  {Name: "took_seconds", Help: "Took.", Kind: backend.Summary, Labels: []string{"job"}},
		`code="404",method="POST"`: requests,
	}
}

const deletedLine = `requests_total{code="404",method="POST"} deleted
`

const goldenPage = `requests_total{code="200",method="GET"} [1 4609434218613702656 1700000000000000000]
` + deletedLine + `size_bytes{path="/a\"b\\c\n"} [4610560118520545280 1 2 3 1700000000000000000]
temperature{} [13836183955189006336 1]
took_seconds{job="x"} [7 4609434218613702656 1700000000000000000]
`

// The golden file pins the format: later versions must read the same values from it. It was made on
// a little-endian machine.
func TestGolden(t *testing.T) {
	t.Parallel()
	if *golden {
		makeGolden(t)
	}
	p := backendtest.ReadGzip(t, goldenFile)
	path := filepath.Join(t.TempDir(), "golden")
	if err := os.WriteFile(path+Suffix, p, 0o600); err != nil {
		t.Fatal(err)
	}
	r := checkFileNow(t, path+Suffix)
	if len(r.Families) != 5 || r.Limit != 8<<20 || len(r.Instances) != 1 || r.Instances[0].Alive || r.Instances[0].ID != 1 {
		t.Errorf("%+v", r)
	}
	if independent := readByFormat(t, p); independent != goldenPage {
		t.Errorf("by FORMAT.md, it holds\n%swant\n%s", independent, goldenPage)
	}
	b := open(t, path, nil)
	exist := strings.Replace(goldenPage, deletedLine, "", 1)
	if got := wholePage(t, b); got != exist {
		t.Errorf("it holds\n%swant\n%s", got, exist)
	}
	// Look-ups find the existing records, so hashes and the index are computed as before.
	end := b.mem.u64(offTail).Load()
	for labels, f := range goldenFamilies() {
		if !strings.Contains(deletedLine, "{"+labels+"}") {
			cells(t, b, f, labels)
		}
	}
	if now := b.mem.u64(offTail).Load(); now != end {
		t.Errorf("the records ended at %d, now at %d: something was not found", end, now)
	}
}

func wholePage(t *testing.T, b *Backend) string {
	t.Helper()
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	for _, g := range b.Walk() {
		for _, s := range g.Series {
			switch {
			case g.Parts != nil:
			default:
				fmt.Fprintf(&page, "%s{%s} %v\n", g.Family.Name, s.Labels, loadWords(s.Words))
			}
		}
	}
	return page.String()
}

// readByFormat reads a file as FORMAT.md specifies, without any of this package's code.
func readByFormat(t *testing.T, p []byte) string {
	t.Helper()
	if string(p[:8]) != "gotheus\n" || order.Uint32(p[8:]) != 2 || order.Uint64(p[16:]) != 0x0102030405060708 {
		t.Fatal("not a file of version 2")
	}
	names := map[uint32]string{}
	var lines []string
	for pass := range 2 { // families, series
		for bucket := range order.Uint32(p[56:]) {
			for at := order.Uint32(p[4096+4*bucket:]); at != 0; at = order.Uint32(p[64*at+36:]) {
				r := p[64*at:]
				words, text := order.Uint32(r[20:]), order.Uint32(r[24:])
				content := string(r[64+8*words:][:text])
				switch typ := order.Uint16(r[4:]); {
				case typ == 1 && pass == 0:
					// the first field of a schema is the name
					names[at] = content[2:][:content[1]]
				case typ == 2 && pass == 1 && words > 0:
					list := make([]uint64, words)
					for i := range list {
						list[i] = order.Uint64(r[64+8*i:])
					}
					line := fmt.Sprintf("%s{%s} %v\n", names[order.Uint32(r[16:])], content, list)
					if order.Uint32(r[52:])&1 != 0 {
						line = fmt.Sprintf("%s{%s} deleted\n", names[order.Uint32(r[16:])], content)
					}
					lines = append(lines, line)
				}
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func makeGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made")
	b, err := Open(path, &Options{AnyFileSystem: true, Limit: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for labels, f := range goldenFamilies() {
		w := cells(t, b, f, labels)
		if start := f.Start(w); start != nil {
			start.Store(1700000000000000000)
		}
		switch f.Kind {
		case backend.Counter:
			w[backend.CounterInt].Store(1)
			w[backend.CounterFloat].Store(math.Float64bits(1.5))
		case backend.Gauge:
			w[backend.GaugeValue].Store(math.Float64bits(-2.5))
			w[backend.GaugeFlags].Store(backend.GaugeIsSet)
		case backend.Summary:
			w[backend.SummaryCount].Store(7)
			w[backend.SummarySum].Store(math.Float64bits(1.5))
		case backend.Histogram:
			w[backend.HistogramSum].Store(math.Float64bits(1.75))
			for i := range 3 {
				w[backend.HistogramBuckets+i].Store(uint64(i + 1))
			}
		}
	}
	b.Delete(requests, func(labels string) bool { return labels == `code="404",method="POST"` })
	newer := *requests
	newer.Help = "Requests, better."
	cells(t, b, &newer, `code="200",method="GET"`)
	cells(t, b, &backend.Family{Name: "busy", Help: "Busy.", Kind: backend.Gauge, Mode: backend.Sum}, "")[0].Store(math.Float64bits(1))
	p, err := os.ReadFile(b.Path())
	if err != nil {
		t.Fatal(err)
	}
	b.Close(context.Background())
	unmap(b.mem)
	// Neither the host name nor the boot id of a real machine.
	copy(p[b.instance(0)+insHost:], make([]byte, insSeen-insHost))
	copy(p[b.instance(0)+insHost:], "host")
	clear(p[offBoot : offBoot+16])
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	z.Write(p)
	z.Close()
	os.Mkdir(filepath.Dir(goldenFile), 0o755)
	if err := os.WriteFile(goldenFile, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
