package report

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

// PanicError returns what recover has returned as an error, with the stack, which still has the
// frames of the panic.
func PanicError(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }

// OnPanic sets a function to be called whenever the logger has panicked.
func (l *Log) OnPanic(f func()) { l.onPanic.Store(&f) }

// contain is deferred around calls of the logger. A logger that panics cannot say so itself, so
// that goes to stderr.
func (l *Log) contain() {
	p := recover()
	if p == nil {
		return
	}
	now := time.Now().UnixNano()
	if last := l.lastPanic.Load(); (last == 0 || now-last >= int64(interval)) && l.lastPanic.CompareAndSwap(last, now) {
		fmt.Fprintf(os.Stderr, "gotheus: a message was lost, because the logger panicked: %v\n", PanicError(p))
	}
	if f := l.onPanic.Load(); f != nil {
		(*f)()
	}
}
