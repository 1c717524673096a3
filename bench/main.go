// Command bench compares gotheus with other libraries that Go programs use, and with the least that
// the hardware can do. See README.md.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 10, "how often everything is measured")
	target := flag.Duration("time", 100*time.Millisecond, "how long one measurement takes")
	only := flag.String("only", "", "measure tables whose title matches this regular expression")
	dir := flag.String("dir", "/dev/shm", "folder for files in shared memory")
	flag.Parse()
	if addr := os.Getenv(fleetChild); addr != "" {
		if err := beOthers(addr); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(*rounds, *target, *only, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, target time.Duration, only, dir string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if rounds < 1 || target <= 0 {
		return fmt.Errorf("-rounds %d -time %v: both must be positive", rounds, target)
	}
	dir, err = os.MkdirTemp(dir, "gotheus-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s, %d rounds of %v, %s.\n", machine(), rounds, target, versions())
	for _, t := range slices.Concat(tables(1), memoryTables(), redisTables()) {
		if !match.MatchString(t.title) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", t.title)
		e := &env{dir: dir}
		if t.report != nil {
			fmt.Printf("\n### %s\n\n", t.title)
			err := t.report(e, os.Stdout, rounds)
			e.close()
			if err != nil {
				return fmt.Errorf("%s: %w", t.title, err)
			}
			continue
		}
		contenders, err := t.contenders(e)
		if err != nil {
			e.close()
			return fmt.Errorf("%s: %w", t.title, err)
		}
		t.print(os.Stdout, measure(contenders, t, rounds, target))
		e.close()
	}
	return nil
}

// tables returns all tables in the order of printing. For tests, it divides the numbers of series.
func tables(fewer int) []*table {
	return []*table{
		counterTable(1), counterTable(2), stripedCounterTable(1), stripedCounterTable(2),
		lookupTable(1), lookupTable(2),
		gaugeSetTable(), gaugeAddTable(),
		observeTable(1), observeTable(2), nativeTable(), quantilesTable(),
		newSeriesTable(10_000 / fewer),
		deleteTable(100), deleteTable(10_000 / fewer), deleteTable(100_000 / fewer),
		pageTable(1_000/fewer, "counters", counterPage), pageTable(100_000/fewer, "counters", counterPage),
		pageTable(10_000/fewer, "histograms of 11 buckets", histogramPage),
		firstByteTable(100_000 / fewer), disturbTable(100_000 / fewer), growthTable(1_000_000 / fewer),
		coldTable(1_000 / fewer), coldTable(10_000 / fewer), coldTable(100_000 / fewer), coldTable(1_000_000 / fewer),
		newGrowthTable(1_000_000 / fewer),
		gzipTable(100_000/fewer, "counters", counterPage), gzipTable(10_000/fewer, "histograms of 11 buckets", histogramPage),
	}
}

func machine() string {
	cpu := "unknown CPU"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s %s/%s, %d CPUs (%s), GOMAXPROCS %d",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu, runtime.GOMAXPROCS(0))
}

// versions returns the versions of the measured modules.
func versions() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "versions unknown"
	}
	var list []string
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/prometheus/client_golang", "github.com/VictoriaMetrics/metrics", "go.opentelemetry.io/otel/sdk/metric",
			"github.com/klauspost/compress", "github.com/redis/go-redis/v9":
			list = append(list, strings.TrimPrefix(m.Path, "github.com/")+" "+m.Version)
		}
	}
	return strings.Join(list, ", ")
}
