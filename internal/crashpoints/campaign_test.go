//go:build linux && (386 || amd64 || arm64)

package crashpoints_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/shm"
	"github.com/gotheus/gotheus/internal/crashpoints"
	"github.com/gotheus/gotheus/internal/crashpoints/point"
)

var (
	stride = flag.Int("stride", 0, "try every n-th point only; 1: all; 0: few enough for a short test")
	only   = flag.String("history", "", "the only history to run")
	at     = flag.Int("at", 0, "the only point to try")
)

// program is the environment variable with the name of an instrumented test program; without it,
// one is built.
const program = "GOTHEUS_CRASH_PROGRAM"

// The modes: what happens to a process at a point.
const (
	kill     = "kill" // it is killed
	stop     = "stop" // it is stopped while another process works, and then goes on
	stopKill = "stop and kill"
)

// chunk is work for a process that runs children. There are several, since a process never unmaps
// the files that it has opened.
type chunk struct {
	History  int // its number, beginning at 1
	Mode     string
	From, By int // points to try: From, From+By, …
	Count    int // at most so many
	Program  string
	Dir      string
}

// result is what a chunk has done.
type result struct {
	Points int // in the whole history
	Tried  int
	// How often opening failed with ErrBusy, and the longest that a process took, while another
	// one was stopped.
	Busy   int
	Held   time.Duration
	Places []string // of all points, if none was tried
	Error  string
}

// A process runs each history and is killed at each point in turn; another one checks what is left,
// goes on, and checks again.
func TestKillAtEveryPoint(t *testing.T) { campaign(t, kill, 23) }

// A process is stopped at each point in turn. Another one must not be held up, and what both have
// counted must be exact in the end.
func TestStopAtEveryPoint(t *testing.T) { campaign(t, stop, 101) }

// A process is stopped at each point in turn, and killed when another one has overtaken it.
func TestOvertakeAndKillAtEveryPoint(t *testing.T) { campaign(t, stopKill, 103) }

func campaign(t *testing.T, mode string, short int) {
	by := *stride
	if by == 0 {
		by = short
	}
	dir := t.TempDir()
	child, places := build(t, dir)
	var mu sync.Mutex
	var wait sync.WaitGroup
	limit := make(chan bool, 2*runtime.GOMAXPROCS(0)) // they often wait
	run := func(c chunk) (r result) {
		limit <- true
		defer func() { <-limit }()
		work, err := os.MkdirTemp(quickDir(dir), "gotheus-crash")
		if err != nil {
			return result{Error: err.Error()}
		}
		defer os.RemoveAll(work)
		c.Program, c.Dir = child, work
		text, err := json.Marshal(c)
		if err != nil {
			return result{Error: err.Error()}
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), chunkEnv+"="+string(text))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil {
			r.Error = fmt.Sprintf("%v: %s", err, stderr.String())
		}
		return r
	}
	total, tried, played := 0, 0, 0
	var held time.Duration
	missed := make(map[string]bool)
	for _, p := range places {
		missed[p.String()] = true
	}
	for i, h := range histories() {
		if *only != "" && h.name != *only || mode != kill && len(h.race) == 0 {
			continue
		}
		wait.Go(func() {
			const most = 100
			first := run(chunk{History: i + 1, Mode: mode, By: 1, Count: 1}) // counts
			sum := result{Points: first.Points, Error: first.Error}
			from := 1 + i%by
			if *at > 0 {
				from = *at
			}
			var parts sync.WaitGroup
			for ; from <= first.Points && sum.Error == ""; from += by * most {
				c := chunk{History: i + 1, Mode: mode, From: from, By: by, Count: most}
				if *at > 0 {
					c.Count = 1
				}
				parts.Go(func() {
					r := run(c)
					mu.Lock()
					defer mu.Unlock()
					sum.Tried += r.Tried
					sum.Busy += r.Busy
					sum.Held = max(sum.Held, r.Held)
					if sum.Error == "" {
						sum.Error = r.Error
					}
				})
				if *at > 0 {
					break
				}
			}
			parts.Wait()
			mu.Lock()
			defer mu.Unlock()
			if sum.Error != "" {
				t.Errorf("%s: %s", h.name, sum.Error)
				return
			}
			note := ""
			if sum.Busy > 0 {
				note = fmt.Sprintf(", opening was refused for the time being at %d of them", sum.Busy)
			}
			t.Logf("%s: %d points, %s at %d%s", h.name, sum.Points, mode, sum.Tried, note)
			for _, place := range first.Places {
				delete(missed, place)
			}
			total, tried, played, held = total+sum.Points, tried+sum.Tried, played+1, max(held, sum.Held)
		})
	}
	wait.Wait()
	t.Logf("%d histories with %d points in all: %s at %d of them", played, total, mode, tried)
	if mode == kill && *only == "" && len(places) > 0 {
		t.Logf("without races, no history reaches %d of %d places: %s", len(missed), len(places), strings.Join(slices.Sorted(maps.Keys(missed)), ", "))
	}
	if mode != kill {
		t.Logf("the longest that others took meanwhile, opening included: %v", held)
	}
	if played == 0 && !t.Failed() {
		t.Errorf("there is no history %q", *only)
	}
}

// quickDir returns a directory in memory if there is one, since thousands of files are created.
func quickDir(other string) string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return other
}

// build returns the name of an instrumented version of this test program, and where it has points,
// if it was built here.
func build(t *testing.T, dir string) (name string, places []crashpoints.Place) {
	if name := os.Getenv(program); name != "" {
		return name, nil
	}
	t.Setenv("CGO_ENABLED", "0") // children start more quickly
	overlay, places, err := crashpoints.Crashes.Overlay(dir, crashpoints.Packages...)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(dir, "instrumented")
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", name, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return name, places
}

// runChunk is the main function of a process that runs children and checks what they leave.
func runChunk() {
	var c chunk
	var r result
	err := json.Unmarshal([]byte(os.Getenv(chunkEnv)), &c)
	if err == nil {
		err = c.run(&r)
	}
	if err != nil {
		r.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		panic(err)
	}
}

func (c *chunk) run(r *result) error {
	h := histories()[c.History-1]
	t := &trial{chunk: c, result: r, history: &h, path: filepath.Join(c.Dir, "f")}
	var err error
	if t.acks, err = backendtest.MapFile[acks](filepath.Join(c.Dir, "acks")); err != nil {
		return err
	}
	if err := t.prepare(); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	for n := range c.Count {
		t.point, t.place = c.From+n*c.By, ""
		watch := time.AfterFunc(2*time.Minute, func() {
			fmt.Fprintf(os.Stderr, "%s: %s at point %d (%s): somebody waits for ever\n", h.name, c.Mode, t.point, t.place)
			syscall.Kill(int(t.child.Load()), syscall.SIGKILL)
			os.Exit(3)
		})
		err := t.try()
		watch.Stop()
		if err != nil {
			return fmt.Errorf("%s at point %d (%s), after %d steps: %w\n\tto repeat: -run %s -history %q -at %d", c.Mode, t.point, t.place, t.acks.steps.Load(), err,
				map[string]string{kill: "TestKillAtEveryPoint", stop: "TestStopAtEveryPoint", stopKill: "TestOvertakeAndKillAtEveryPoint"}[c.Mode], h.name, t.point)
		}
		if t.ended {
			break
		}
		r.Tried++
	}
	return nil
}

// trial is one run of a history.
type trial struct {
	*chunk
	*result
	*history
	path    string
	acks    *acks
	file    []byte // at the beginning
	initial state
	point   int    // 0: none
	place   string // of the point, in the sources
	ended   bool   // before it reached the point
	witness *actor
	child   atomic.Int64 // the last one that was started
}

// start starts a child process, and returns when it has ended or was stopped.
func (t *trial) start(history int) (pid int, status syscall.WaitStatus, err error) {
	t.acks.steps.Store(0)
	t.acks.number.Store(0)
	t.acks.points.Store(0)
	log, err := os.OpenFile(filepath.Join(t.Dir, "stderr"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, 0, err
	}
	defer log.Close()
	env := append(os.Environ(), fmt.Sprint(historyEnv, "=", history), fileEnv+"="+t.path, acksEnv+"="+filepath.Join(t.Dir, "acks"), chunkEnv+"=")
	if t.point > 0 {
		what := "kill"
		if t.Mode != kill {
			what = "stop"
		}
		env = append(env, fmt.Sprint(point.Variable, "=", what, " ", t.point))
	}
	p, err := os.StartProcess(t.Program, []string{t.Program}, &os.ProcAttr{Env: env, Files: []*os.File{nil, nil, log}})
	if err != nil {
		return 0, 0, err
	}
	pid = p.Pid
	p.Release()
	t.child.Store(int64(pid))
	status, err = wait(pid)
	text, readErr := os.ReadFile(log.Name())
	t.place = strings.TrimSpace(string(text))
	return pid, status, errors.Join(err, readErr)
}

// wait waits until a child has ended or stopped.
func wait(pid int) (status syscall.WaitStatus, err error) {
	for {
		if _, err = syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != syscall.EINTR {
			return status, err
		}
	}
}

// prepare makes the file with which each trial begins.
func (t *trial) prepare() error {
	t.initial = make(state)
	if t.crowded {
		a, err := t.open()
		if err == nil {
			err = a.b.Close(context.Background())
		}
		if err == nil {
			t.file, err = os.ReadFile(t.path + shm.Suffix)
		}
		if err != nil {
			return err
		}
		crowd(t.file)
		if err := os.WriteFile(t.path+shm.Suffix, t.file, 0o600); err != nil {
			return err
		}
		if r, err := shm.Inspect(t.path + shm.Suffix); err != nil || len(r.Problems) > 0 {
			return fmt.Errorf("the file with a small index is not valid: %v, %+v", err, r)
		}
	}
	if len(t.setup) == 0 {
		return nil
	}
	_, status, err := t.start(-t.History)
	dies := t.setup[len(t.setup)-1].do == doDie
	if err == nil && !dies && status != 0 || dies && status.Signal() != syscall.SIGKILL {
		err = fmt.Errorf("status %#x: %s", status, t.place)
	}
	if err != nil {
		return err
	}
	if t.file, err = os.ReadFile(t.path + shm.Suffix); err != nil {
		return err
	}
	if t.spoil != nil {
		t.file = t.spoil(t.file)
	}
	if t.lost {
		return nil
	}
	for i := range t.setup {
		t.initial.apply(&t.setup[i], 0)
	}
	t.initial.gone(0)
	return nil
}

// try runs the history once.
func (t *trial) try() error {
	list, err := filepath.Glob(t.path + "*")
	for _, name := range list {
		err = errors.Join(err, os.Remove(name))
	}
	if err == nil && (t.file != nil || t.lost) {
		err = os.WriteFile(t.path+shm.Suffix, t.file, 0o600)
	}
	if err == nil && t.alone { // another process has died long ago while it made a file
		stale := t.path + shm.Suffix + ".new-1-x"
		past := time.Now().Add(-time.Hour)
		err = errors.Join(os.WriteFile(stale, nil, 0o600), os.Chtimes(stale, past, past))
	}
	if err != nil {
		return err
	}
	t.witness = nil
	if !t.alone {
		if t.witness, err = t.open(); err != nil {
			return err
		}
	}
	pid, status, err := t.start(t.History)
	if err != nil {
		return err
	}
	done := int(t.acks.steps.Load())
	// all states between the last step that was acknowledged and the next one
	number := 0
	if !t.alone {
		number = 1 // of the child's instance
	}
	before := maps.Clone(t.initial)
	for i := range done {
		before.apply(&t.steps[i], number)
	}
	after := maps.Clone(before)
	if done < len(t.steps) {
		after.apply(&t.steps[done], number)
	}
	switch {
	case status.Exited() && status.ExitStatus() == 0: // the point comes later
		t.ended, t.Points, t.Places = true, int(t.acks.points.Load()), strings.Split(t.place, "\n")
		if t.Points == 0 {
			return errors.New("the program is not instrumented")
		}
		if t.point > 0 && t.point <= t.Points {
			return fmt.Errorf("the process ended after %d points", t.Points)
		}
	case status.Stopped() && t.Mode != kill:
		return t.stopped(pid, done, number, before, after)
	case status.Signaled() && status.Signal() == syscall.SIGKILL && t.Mode == kill:
	default:
		return fmt.Errorf("status %#x", status)
	}
	before.gone(number)
	after.gone(number)
	return t.verify(done, before, after)
}

// open opens another instance, as a process does that comes later.
func (t *trial) open() (*actor, error) {
	a := &actor{path: t.path}
	p := open(shm.Options{Group: t.group})
	_, err := a.do(&p)
	return a, err
}

func (t *trial) stopped(pid, done, number int, before, after state) error {
	over := false
	defer func() {
		if !over {
			syscall.Kill(pid, syscall.SIGKILL)
			wait(pid)
		}
	}()
	began, busy := time.Now(), false
	if t.witness == nil {
		// The stopped process may be replacing the file.
		var err error
		if t.witness, err = t.open(); errors.Is(err, backend.ErrBusy) {
			t.witness, busy = nil, true
			t.Busy++
		} else if err != nil {
			return fmt.Errorf("opening while another process is stopped: %w", err)
		}
	}
	raced := maps.Clone(before) // what is there if the process goes no further
	if !busy {
		now, err := t.witness.observe()
		if err != nil {
			return err
		}
		mine := t.witness.b.Number()
		if t.alone {
			// Which instance has which number depends on who was first.
			now.gone(1 - mine)
			before.gone(1 - mine)
			after.gone(1 - mine)
		}
		if d := now.difference(before, after); d != "" {
			return fmt.Errorf("while it is stopped, another process sees%s", d)
		}
		finished := maps.Clone(after) // a deletion, by whoever wants the series
		for i := range t.race {
			if _, err := t.witness.do(&t.race[i]); err != nil {
				return fmt.Errorf("while it is stopped: %v: %w", &t.race[i], err)
			}
			now.apply(&t.race[i], mine)
			finished.apply(&t.race[i], mine)
		}
		seen, err := t.witness.observe()
		if err != nil {
			return err
		}
		if t.alone {
			seen.gone(1 - mine)
		}
		if d := seen.difference(now, finished); d != "" {
			return fmt.Errorf("while it is stopped, another process works, and then sees%s", d)
		}
		raced = seen
		if held := time.Since(began); held > t.Held {
			t.Held = held
			if held > 10*time.Second {
				return fmt.Errorf("others were held up for %v", held)
			}
		}
	}
	over = true
	if t.Mode == stopKill {
		syscall.Kill(pid, syscall.SIGKILL)
		if status, err := wait(pid); err != nil || status.Signal() != syscall.SIGKILL {
			return fmt.Errorf("status %#x, %v", status, err)
		}
		if busy {
			before.gone(number)
			after.gone(number)
			return t.verify(done, before, after)
		}
		raced.gone(number)
		return t.verify(done, raced)
	}
	syscall.Kill(pid, syscall.SIGCONT)
	status, err := wait(pid)
	if err != nil || status != 0 {
		text, _ := os.ReadFile(filepath.Join(t.Dir, "stderr"))
		return fmt.Errorf("after it went on: status %#x, %v: %s", status, err, text)
	}
	// Each word is as if the others had worked before the interrupted step or in the end.
	first, last := maps.Clone(before), maps.Clone(before)
	mine := 0
	if !busy {
		mine = t.witness.b.Number()
		for i := range t.race {
			first.apply(&t.race[i], mine)
		}
	}
	for i := done; i < len(t.steps); i++ {
		last.apply(&t.steps[i], number)
		p := t.steps[i]
		p.alone = p.alone && busy
		first.apply(&p, number)
	}
	if !busy {
		for i := range t.race {
			last.apply(&t.race[i], mine)
		}
	}
	first.gone(number)
	last.gone(number)
	// A series that is being deleted may already have a start again, which then stays.
	between := maps.Clone(first)
	for i := range t.race {
		if t.race[i].family == nil {
			continue
		}
		if key := partKey(t.race[i].family, t.race[i].labels, mine) + " start"; !busy && between[key] != "" {
			between[key] = fmt.Sprint(t.race[i].start())
		}
	}
	return t.verify(len(t.steps), first, last, between)
}

// verify checks that what the others see is one of the states, or between them, and that they can
// go on, beginning with the step that was not acknowledged.
func (t *trial) verify(done int, states ...state) error {
	report, err := shm.Inspect(t.path + shm.Suffix)
	switch {
	case t.witness == nil && (errors.Is(err, os.ErrNotExist) || t.lost): // not made yet
	case err != nil:
		return err
	case len(report.Problems) > 0:
		return fmt.Errorf("the file is damaged: %q", report.Problems)
	}
	next, err := t.open()
	if err != nil {
		return fmt.Errorf("opening afterwards: %w", err)
	}
	if t.witness == nil {
		t.witness = next
		if next, err = t.open(); err != nil {
			return err
		}
	}
	now, err := t.witness.observe()
	if err != nil {
		return err
	}
	if d := now.difference(states...); d != "" {
		return fmt.Errorf("another process sees%s", d)
	}
	if done < len(t.steps) && t.steps[done].do == doOpen { // all or nothing
		for _, s := range states {
			if now.difference(s) == "" {
				states = nil
			}
		}
		if states != nil {
			return errors.New("the file begins with some values but not all")
		}
	}
	if err := same(now, next); err != nil {
		return fmt.Errorf("a process that opens the file sees%w", err)
	}

	// Others go on.
	do := func(a *actor, p *step) error {
		did, err := a.do(p)
		if err != nil {
			return fmt.Errorf("afterwards: %v: %w", p, err)
		}
		if did || p.do != doExemplar {
			now.apply(p, a.b.Number())
		}
		return nil
	}
	for i := done; i < len(t.steps); i++ {
		if p := &t.steps[i]; p.do != doOpen && p.do != doClose {
			if err := do(t.witness, p); err != nil {
				return err
			}
		}
	}
	first, second := count(later, x("new"), 0), remove(later, x("new"))
	life := len(t.steps)
	first.life, second.life = life, life+1
	again := first
	again.life++
	for _, x := range []struct {
		who  *actor
		what step
	}{{next, first}, {t.witness, first}, {t.witness, second}, {next, again}, {t.witness, again}} {
		if err := do(x.who, &x.what); err != nil {
			return err
		}
	}
	// The space of what was deleted serves others.
	for i := range 6 {
		t.witness.reclaim()
		next.reclaim()
		p := count(total, x(fmt.Sprint("new", i)), 0)
		p.life = life + 1
		if err := do([]*actor{t.witness, next}[i%2], &p); err != nil {
			return err
		}
	}
	for _, a := range []*actor{t.witness, next} {
		if err := same(now, a); err != nil {
			return fmt.Errorf("afterwards, a process sees%w", err)
		}
	}
	if report, err = shm.Inspect(t.path + shm.Suffix); err != nil || len(report.Problems) > 0 {
		return fmt.Errorf("afterwards, the file is damaged: %v, %+v", err, report)
	}
	for _, a := range []*actor{t.witness, next} {
		if err := a.b.Close(context.Background()); err != nil {
			return err
		}
	}
	if next, err = t.open(); err != nil {
		return fmt.Errorf("opening in the end: %w", err)
	}
	defer next.b.Close(context.Background())
	last, err := next.observe()
	if err != nil {
		return err
	}
	if d := last.lasting().difference(now.lasting()); d != "" {
		return fmt.Errorf("opened again in the end, the file has%s", d)
	}
	return nil
}

// same returns an error if a does not see a state.
func same(want state, a *actor) error {
	got, err := a.observe()
	if err != nil {
		return err
	}
	if d := got.difference(want); d != "" {
		return errors.New(d)
	}
	return nil
}
