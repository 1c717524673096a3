//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import "testing"

// The groups of slots that declaration records are for have canonical names, within the table.
func TestDeclaredGroup(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "1": 1, "68": 68, "0": -1, "-1": -1, "01": -1, "+1": -1, "x": -1, "69": -1} {
		group, ok := declaredGroup(&record{text: text, words: declaredSlots}, numInstances)
		if ok != (want >= 0) || ok && group != want {
			t.Errorf("%q: group %d, %v, want %d", text, group, ok, want)
		}
	}
	if _, ok := declaredGroup(&record{words: declaredSlots + 1}, numInstances); ok {
		t.Error("a record with more words passes")
	}
}
