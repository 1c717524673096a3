package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// quantity is something that is sampled, and must not grow at constant load.
type quantity struct {
	name, unit string
	// Growth below both over the whole fit is not judged: the larger of a number, in unit, and
	// a share of the mean.
	slack, share float64

	at     []float64 // seconds since the beginning
	values []float64
}

func (q *quantity) add(at time.Duration, v float64) {
	q.at, q.values = append(q.at, at.Seconds()), append(q.values, v)
}

// after returns the samples from a time on, which is the end of the warm-up.
func (q *quantity) after(warmUp time.Duration) (at, values []float64) {
	i, _ := slices.BinarySearch(q.at, warmUp.Seconds())
	return q.at[i:], q.values[i:]
}

// line is a line fitted to samples by least squares.
type line struct {
	n     int
	mean  float64
	span  float64 // seconds
	slope float64 // per second
	sigma float64 // standard error of the slope
}

const (
	minSamples = 20 // for a verdict
	// sigmas is by how many standard errors a slope must differ from zero. With ten quantities
	// in each run, a false alarm must be rare.
	sigmas = 4
)

// fit fits a line. Neighbouring samples resemble each other, as those of memory do between two
// collections, which makes a slope less certain than independent samples would: the standard error
// is that for the number of independent samples that the autocorrelation of the residuals leaves.
func fit(at, values []float64) line {
	l := line{n: len(values)}
	if l.n < 3 {
		return l
	}
	n, meanAt := float64(l.n), 0.0
	for i := range values {
		meanAt += at[i] / n
		l.mean += values[i] / n
	}
	var xx, xy float64
	for i := range values {
		xx += (at[i] - meanAt) * (at[i] - meanAt)
		xy += (at[i] - meanAt) * (values[i] - l.mean)
	}
	l.span = at[l.n-1] - at[0]
	l.slope = xy / xx
	var squares, neighbours, last float64
	for i := range values {
		r := values[i] - l.mean - l.slope*(at[i]-meanAt)
		squares += r * r
		neighbours += r * last
		last = r
	}
	if squares > 0 {
		rho := neighbours / squares
		rho += (2 + 4*rho) / n // the fit makes residuals resemble each other less
		rho = min(max(rho, 0), .99)
		l.sigma = math.Sqrt(squares / (n - 2) / xx * (1 + rho) / (1 - rho))
	}
	return l
}

// grows reports whether a line rises for certain, and by more than q's slack.
func (q *quantity) grows(l line) bool {
	return l.n >= minSamples && l.slope > sigmas*l.sigma && l.slope*l.span > max(q.slack, q.share*l.mean)
}

// judge writes the table of all quantities, and returns a line for each that grows.
func judge(w io.Writer, list []*quantity, warmUp time.Duration) (growing []string) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tunit\tsamples\tfirst\tlast\tmean\tper hour\t±\t\t")
	for _, q := range list {
		at, values := q.after(warmUp)
		if len(values) == 0 {
			continue
		}
		l := fit(at, values)
		perHour, sigma := l.slope*3600, sigmas*l.sigma*3600
		verdict := "steady"
		switch {
		case l.n < minSamples:
			verdict = "too few samples"
		case q.grows(l):
			verdict = "GROWS"
			growing = append(growing, fmt.Sprintf("%s grows by %s ± %s %s per hour", q.name, number(perHour), number(sigma), q.unit))
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", q.name, q.unit, l.n,
			number(values[0]), number(values[len(values)-1]), number(l.mean), number(perHour), number(sigma), verdict)
	}
	t.Flush()
	return growing
}

// number formats a value with about four digits.
func number(v float64) string {
	if math.Abs(v) >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	if math.Abs(v) < 1e-4 {
		return "0"
	}
	return fmt.Sprintf("%.4g", v)
}
