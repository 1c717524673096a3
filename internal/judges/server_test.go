package judges

import (
	"bytes"
	"net"
	"os/exec"
	"testing"
)

// startServer starts a server of another project on a port of its own. It runs in dir, and what it
// keeps must be told to be there, too: servers remember what earlier ones had. It is killed when
// the test ends, or when the test's process dies.
func startServer(t *testing.T, dir, binary string, args func(addr string) []string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	cmd := exec.Command(binary, args(addr)...)
	cmd.Dir, cmd.SysProcAttr = dir, deathSignal()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // whose error says that it was killed
		if t.Failed() {
			t.Logf("%s says: %s", binary, &log)
		}
	})
	return addr
}
