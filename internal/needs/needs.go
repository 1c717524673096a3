// Package needs lets tests be left out that need what not every machine has: other programs, root.
// Nothing is left out by itself, so that no test is lost unnoticed; the environment variable
// GOTHEUS_LEAVE_OUT, which test.sh sets, names what may be missing, with blanks between:
//
//	root redis-server redis-tls prometheus prometheus-pushgateway python3
//	python3-prometheus-client e2fsprogs xfsprogs btrfs-progs mount (with root)
//	ext4 xfs btrfs overlay (with root; file systems of the kernel)
package needs

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const variable = "GOTHEUS_LEAVE_OUT"

// LeftOut reports whether what a test needs is named in GOTHEUS_LEAVE_OUT.
func LeftOut(what string) bool {
	return slices.Contains(strings.Fields(os.Getenv(variable)), what)
}

// Check skips the test if GOTHEUS_LEAVE_OUT names what it needs. Else the test fails if err says
// why that is missing; advice says how to get it.
func Check(t testing.TB, what string, err error, advice string) {
	t.Helper()
	switch {
	case LeftOut(what):
		t.Skipf("needs %s, which %s names", what, variable)
	case err != nil:
		t.Fatalf("this test needs %s (%v): %s; or leave such tests out with %s=%s", what, err, advice, variable, what)
	}
}
