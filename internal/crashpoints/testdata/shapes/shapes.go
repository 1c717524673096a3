// Command shapes has calls and assignments in all places where the language allows them. It prints
// what it has done, and how many points there were.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/crashpoints/point"
)

var (
	word atomic.Uint64
	ptr  atomic.Pointer[int]
	list atomic.Int32
)

// several returns what a call with several results returns.
func several(name string) (*os.File, error) { return os.OpenFile(name, os.O_RDONLY, 0) }

func take(f *os.File, err error) bool { return f != nil && err == nil }

// loop has calls in all parts of loops.
func loop() uint64 {
	for old := word.Load(); !word.CompareAndSwap(old, old+1); old = word.Load() {
	}
	for word.Add(1); word.Load() < 10; word.Add(8) {
	}
	return word.Load()
}

func deferred() (n uint64) {
	defer func() { n = word.Load() }()
	defer word.Store(77)
	return word.Swap(5)
}

func plain(b []byte, m map[int]byte) byte {
	m[0] = 9 // no point
	b[0] = 1
	b[0]++
	if b[1] = 3; b[1] > 2 { // no point: not a statement of its own
		b[2], m[1] = 4, 5
	}
	switch n := copy(b[4:], "xy"); n {
	case 2:
		b[3] = 6
	}
	clear(b[5:])
	clear(m) // no point
	binary.LittleEndian.PutUint16(b[6:], 0x0102)
	return b[0] + b[1] + b[2] + b[3] + b[4] + b[5] + b[6]
}

func count(name string, do func() any) {
	before := point.Executed()
	v := do()
	fmt.Println(name, v, point.Executed()-before)
}

func main() {
	count("load", func() any { return word.Load() })
	count("store", func() any { word.Store(3); return word.Load() })
	count("swap", func() any { return word.Swap(word.Add(1)) })
	count("loop", func() any { return loop() })
	count("deferred", func() any { return deferred() })
	count("pointer", func() any { ptr.Store(new(int)); return *ptr.Load() })
	count("function", func() any { return atomic.AddUint64(new(uint64), 2) })
	count("several", func() any { return take(several("/dev/null")) })
	count("nested", func() any { return take(os.OpenFile("/dev/null", os.O_RDONLY, 0)) })
	count("assigned", func() any {
		f, err := os.CreateTemp("", "shapes")
		if err != nil {
			return err
		}
		defer f.Close()
		defer os.Remove(f.Name())
		n, err := f.WriteAt([]byte("abc"), 0)
		if _, err := f.Write(nil); err != nil {
			return err
		}
		return fmt.Sprint(n, err, f.Truncate(1))
	})
	count("plain", func() any { return plain(make([]byte, 8), make(map[int]byte)) })
	done := make(chan bool)
	count("go", func() any {
		go func() { list.Store(1); close(done) }()
		<-done
		return list.Load()
	})
}
