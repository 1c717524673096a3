package backendtest

import (
	"testing"
	"time"
)

// patience is how long a test waits for work in the background or in another process; machines can
// be slow.
const patience = 2 * time.Minute

// Eventually waits for a condition that work in the background or another process makes true. After
// two minutes the test fails and says what it has waited for: "timed out waiting until …".
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	until(t, func() string {
		if ok() {
			return ""
		}
		return "timed out waiting until " + what
	})
}

// until waits until there is no problem, or fails the test with the last one.
func until(t testing.TB, problem func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // between polls
		late := time.Now().After(deadline)
		found := problem()
		if found == "" {
			return
		}
		if late {
			t.Fatal(found)
		}
	}
}
