package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "page.prom")
	put := func(text string, fails error) error {
		return Write(name, func(w io.Writer) error {
			if _, err := io.WriteString(w, text); err != nil {
				t.Error(err)
			}
			return fails
		})
	}
	has := func(want string) {
		t.Helper()
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("the file has %q, want %q; %v", got, want, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("the directory has %v, want the file alone; %v", left, err)
		}
	}
	if err := put("first", nil); err != nil {
		t.Fatal(err)
	}
	has("first")
	broken := errors.New("broken")
	if err := put("half", broken); !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
	has("first")
	if err := put("second", nil); err != nil {
		t.Fatal(err)
	}
	has("second")
	err := Write(filepath.Join(dir, "none", "x"), func(io.Writer) error { t.Error("called without a file"); return nil })
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got error %v, want that the directory does not exist", err)
	}
}
