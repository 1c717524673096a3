//go:build linux && (386 || amd64 || arm64)

package shm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/shm"
)

// Two backends stand for two processes here.
func ExampleOpen() {
	dir, _ := os.MkdirTemp("", "example") // /dev/shm in a program
	defer os.RemoveAll(dir)
	path, o := filepath.Join(dir, "shop"), &shm.Options{AnyFileSystem: true}

	one, err := shm.Open(path, o)
	if err != nil {
		fmt.Println(err)
		return
	}
	other, err := shm.Open(path, o)
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := &backend.Family{Name: "orders_total", Help: "Orders taken.", Kind: backend.Counter}
	for _, b := range []*shm.Backend{one, other} {
		words, err := b.Cells(orders, "")
		if err != nil {
			fmt.Println(err)
			return
		}
		words[backend.CounterInt].Add(1)
		fmt.Println(filepath.Base(b.Path()), "process", b.Number(), "counts", words[backend.CounterInt].Load())
	}
	one.Close(context.Background())
	other.Close(context.Background())
	// Output:
	// shop.gotheus-v2 process 0 counts 1
	// shop.gotheus-v2 process 1 counts 2
}

// A program can open the file itself to set options without a URL.
func ExampleOptions() {
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	b, err := shm.Open(filepath.Join(dir, "shop"), &shm.Options{
		Limit:         64 << 20, // bytes
		Group:         true,     // mode 0660: all members of the file's group can use it
		Fresh:         true,     // start from zero if no other process has the file open
		AnyFileSystem: true,     // the temporary directory may be on any
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := new(gotheus.Registry)
	if err := r.BindBackend(context.Background(), b); err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close(context.Background())
	st, _ := os.Stat(b.Path())
	fmt.Println(st.Mode())
	// Output: -rw-rw----
}

// Peek tells what Open would do with a file, without doing it.
func ExamplePeek() {
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "shop")
	resume, fresh := &shm.Options{AnyFileSystem: true}, &shm.Options{AnyFileSystem: true, Fresh: true}
	show := func(when string) {
		a, err := shm.Peek(path, resume)
		if err != nil {
			fmt.Println(err)
		}
		b, err := shm.Peek(path, fresh)
		if err != nil {
			fmt.Println(err)
		}
		fmt.Printf("%s: %v; with Fresh: %v\n", when, a, b)
	}
	show("no file")
	b, err := shm.Open(path, resume)
	if err != nil {
		fmt.Println(err)
		return
	}
	show("a process has it open")
	b.Close(context.Background())
	show("none has it open")
	// Output:
	// no file: create; with Fresh: create
	// a process has it open: resume; with Fresh: resume
	// none has it open: resume; with Fresh: start afresh
}

// A file can be inspected while processes use it.
func ExampleInspect() {
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "shop")
	r := new(gotheus.Registry)
	if err := r.Bind(context.Background(), "shm://"+path+"?fs=any&limit=1MiB"); err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close(context.Background())
	r.NewCounterVec("orders_total", "Orders taken.", nil, "shop").With("Ulm").Inc()

	report, err := shm.Inspect(path + shm.Suffix)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range report.Families {
		if f.Family.Name == "orders_total" {
			fmt.Println(f.Family.Kind, f.Family.Name, f.Series, f.Bytes, "bytes, declared by a live process:", f.Declared)
		}
	}
	fmt.Println(len(report.Instances), "process; limit", report.Limit, "bytes; problems:", report.Problems)
	// Output:
	// counter orders_total [shop="Ulm"] 448 bytes, declared by a live process: true
	// 1 process; limit 1048576 bytes; problems: []
}

// A metric that a deploy has removed leaves its values behind. They can be deleted once the last
// process that declared it has ended.
func ExampleBackend_Forget() {
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	path, o := filepath.Join(dir, "shop"), &shm.Options{AnyFileSystem: true}
	former, err := shm.Open(path, o)
	if err != nil {
		fmt.Println(err)
		return
	}
	words, err := former.Cells(&backend.Family{Name: "old_total", Help: "Given up.", Kind: backend.Counter}, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	words[backend.CounterInt].Add(5)

	b, err := shm.Open(path, o)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close(context.Background())
	n, err := b.Forget("old_total")
	fmt.Println("as long as a process has it:", n, err)
	former.Close(context.Background())
	n, err = b.Forget("old_total")
	fmt.Println("then:", n, err)
	// Output:
	// as long as a process has it: 0 <nil>
	// then: 1 <nil>
}

func ExampleParseURL() {
	path, o, err := shm.ParseURL("shm:///dev/shm/shop?limit=64MiB&start=fresh&share=group")
	fmt.Println(path, o.Limit, o.Fresh, o.Group, err)
	_, _, err = shm.ParseURL("shm:///dev/shm/shop?limit=64MB")
	fmt.Println(err)
	// Output:
	// /dev/shm/shop 67108864 true true <nil>
	// shm: invalid argument: URL "shm:///dev/shm/shop": limit must be in bytes, KiB, MiB or GiB
}
