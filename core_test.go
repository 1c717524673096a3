package gotheus

import (
	"reflect"
	"strconv"
	"testing"

	"github.com/gotheus/gotheus/internal/lookup"
)

// TestEntryOfCounter checks that a look-up and Inc read one cache line and write to another, and
// that these hold nothing else. With 32-bit pointers an entry is smaller and may share lines with
// others.
func TestEntryOfCounter(t *testing.T) {
	e := reflect.TypeFor[lookup.Entry[Counter]]()
	room, _ := reflect.TypeFor[Counter]().FieldByName("room")
	m, _ := e.FieldByName("M")
	wantSize, wantWords := uintptr(128), uintptr(64)
	if strconv.IntSize == 32 {
		wantSize, wantWords = 96, 72
	}
	if size, words := e.Size(), m.Offset+room.Offset; size != wantSize || words < wantWords {
		t.Errorf("%d bytes, with the words at %d: want %d, and the words beyond %d", size, words, wantSize, wantWords)
	}
}
