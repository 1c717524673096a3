//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/store"
)

// hostile starts a server that answers each script with the beginning, and then with more and more
// for as long as the client reads it. It returns the address.
func hostile(t testing.TB, begin, more string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	more = strings.Repeat(more, max(1, (64<<10)/max(len(more), 1)))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 1<<16)
				for { // how a connection begins
					n, err := c.Read(b)
					if err != nil {
						return
					}
					commands := strings.Count("\n"+string(b[:n]), "\n*")
					if strings.Contains(string(b[:n]), "evalsha") {
						break
					}
					c.Write([]byte(strings.Repeat("-ERR unknown command\r\n", commands)))
				}
				_, err := c.Write([]byte(begin))
				for err == nil && more != "" {
					_, err = c.Write([]byte(more))
				}
				c.Read(make([]byte, 1<<16)) // until the client closes
			}()
		}
	}()
	return l.Addr().String()
}

// Whatever a server answers, memory is bounded, and each call returns an error that says what is
// wrong.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, begin, more, want string }{
		{"a string that no memory holds", "$9223372036854775800\r\n", "", "more than 64 MiB"},
		{"a long string", "$70000000\r\n", "x", "more than 64 MiB"},
		{"a long error", "!70000\r\n", "x", "an error of more than 64 KiB"},
		{"an array that no memory holds", "*9223372036854775800\r\n", "", "more than 4194304 values"},
		{"a long array", "*5000000\r\n", ":1\r\n", "more than 4194304 values"},
		{"many arrays", "*1000\r\n", "*5000\r\n" + strings.Repeat(":1\r\n", 5000), "more than 4194304 values"},
		{"arrays in arrays", "", "*1\r\n", "deeper than 32"},
		{"maps in maps", "", "%1\r\n:1\r\n", "deeper than 32"},
		{"attributes of attributes", "", "|1\r\n", "deeper than 32"},
		{"a line without end", "+", "x", "more than 64 KiB"},
		{"no length", "$\r\n", "", "does not answer as Redis does"},
		{"a length below zero", "*-5\r\n", "", "does not answer as Redis does"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			st := openStore(t, "redis://"+hostile(t, c.begin, c.more)+"?protocol=2&max_retries=-1")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := st.Heads(ctx, nil)
			if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, must be about %q", err, c.want)
			}
		})
	}
}

// A server that answers byte by byte, and never ends, is left when the context ends.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for err := error(nil); err == nil; time.Sleep(time.Millisecond) {
					_, err = c.Write([]byte("+"))
				}
			}()
		}
	}()
	st := openStore(t, "redis://"+l.Addr().String()+"?max_retries=-1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := st.Heads(ctx, nil); err == nil || !strings.Contains(err.Error(), "not answered in time") {
		t.Errorf("error %v", err)
	}
}
