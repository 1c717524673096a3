package series

import (
	"errors"
	"strconv"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/word"
)

// testFamily returns a family of h, with tallies as its table, that is not entered.
func testFamily(h *Home, kind backend.Kind, name string) (*Family, *tallies) {
	f := &Family{Home: h, Def: &backend.Family{Name: name, Help: "H.", Kind: kind}}
	t := &tallies{family: f, byMetric: make(map[string]*tally)}
	f.table = t
	f.Prepare()
	return f, t
}

// Hiding a family frees its names, and entering it again returns the same family.
func TestEnterAndHide(t *testing.T) {
	t.Parallel()
	h := new(Home)
	counter, _ := testFamily(h, backend.Counter, "requests_total")
	same, _ := testFamily(h, backend.Counter, "requests_total")
	other, _ := testFamily(h, backend.Gauge, "requests_total")
	gauge, _ := testFamily(h, backend.Gauge, "requests") // the counter's name in OpenMetrics
	enter := func(f, want *Family) {
		t.Helper()
		got, err := h.Enter(f)
		if got != want || errors.Is(err, ErrConflict) != (want == nil) {
			t.Errorf("%v %s: got %p and error %v, want %p", f.Def.Kind, f.Def.Name, got, err, want)
		}
	}
	enter(counter, counter)
	enter(same, counter)
	enter(other, nil)
	enter(gauge, nil)
	if h.IsHidden() != nil {
		t.Error("a family is hidden before Hide")
	}
	if !h.Hide("requests_total") || h.Hide("requests_total") {
		t.Error("Hide does not report whether there was a family")
	}
	if hidden := h.IsHidden(); hidden == nil || !hidden(counter.Def) || hidden(gauge.Def) {
		t.Error("not exactly the hidden family is reported as hidden")
	}
	enter(gauge, gauge)
	enter(counter, nil)
	h.Hide("requests")
	enter(same, counter)
	if hidden := h.IsHidden(); hidden == nil || hidden(counter.Def) {
		t.Error("the family that came back is still hidden")
	}
	if list := h.Families(); len(list) != 2 { // the other one is hidden
		t.Errorf("%d families are listed, want 2", len(list))
	}
}

// value returns the value of a backend's only series, and whether it exists.
func value(b *Binding) (n uint64, exists bool) {
	for _, g := range b.Walk() {
		for i, s := range g.Series {
			n, exists = word.Int(&s.Words[backend.CounterInt]), g.Exists(i)
		}
	}
	return n, exists
}

// A tally moves with its value and keeps counting, and a deleted series comes back from zero.
func TestMoveAndDelete(t *testing.T) {
	t.Parallel()
	h := new(Home)
	f, tallies := testFamily(h, backend.Counter, "moves_total")
	if _, err := h.Enter(f); err != nil {
		t.Fatal(err)
	}
	c := tallies.of("")
	for range 3 {
		c.add()
	}
	old, to := c.series.Words(), LocalHeap()
	h.MoveAll(to)
	h.Log.Release()
	if n, exists := value(to); n != 3 || !exists || !f.Def.Sealed(old) {
		t.Errorf("moved with value %d, exists %v, old words sealed %v", n, exists, f.Def.Sealed(old))
	}
	c.add()
	if n, _ := value(to); n != 4 {
		t.Errorf("the value is %d after another update, want 4", n)
	}
	if n, err := f.Delete(func(string) bool { return true }); n != 1 || err != nil {
		t.Errorf("deleted %d series: %v", n, err)
	}
	if _, exists := value(to); exists {
		t.Error("the series exists after Delete")
	}
	c.add()
	if n, exists := value(to); n != 1 || !exists {
		t.Errorf("the value is %d after the series came back, exists %v, want 1", n, exists)
	}
}

// A series that is deleted after another backend was bound, but before it has moved there, does not
// take what it had along.
func TestDeleteBeforeMove(t *testing.T) {
	t.Parallel()
	h := new(Home)
	f, tallies := testFamily(h, backend.Counter, "moves_total")
	if _, err := h.Enter(f); err != nil {
		t.Fatal(err)
	}
	c := tallies.of("")
	c.add()
	to := LocalHeap()
	h.bound.Store(to) // as MoveAll does first
	if was, err := f.DeleteSeries(""); !was || err != nil {
		t.Errorf("deleted: %v, %v", was, err)
	}
	h.MoveAll(to)
	h.Log.Release()
	if n, exists := value(to); exists {
		t.Errorf("the deleted series has moved, with %d", n)
	}
	c.add()
	if n, _ := value(to); n != 1 {
		t.Errorf("the value is %d after the series came back, want 1", n)
	}
}

// An integer word never reaches its seal: what would take it there moves to the float word.
func TestCarryBeyondTheLimit(t *testing.T) {
	t.Parallel()
	f, _ := testFamily(new(Home), backend.Counter, "large_total")
	for n, float := range map[uint64]float64{4: 0, 5: 5, 6: 6} {
		from, to := make(backend.Words, f.Def.Words()), make(backend.Words, f.Def.Words())
		from[backend.CounterInt].Store(n)
		to[backend.CounterInt].Store(backend.IntLimit - 5)
		f.CarryCounter(to, from)
		integer := backend.IntLimit - 5
		if float == 0 {
			integer += n
		}
		if i, v := to[backend.CounterInt].Load(), word.Float(&to[backend.CounterFloat]); i != integer || v != float {
			t.Errorf("%d added: integer word %d, float word %v, want %d and %v", n, i, v, integer, float)
		}
	}
}

// While Delete looks at one series after the other, others are made: neither the family nor the
// heap is locked. Those that are made meanwhile may or may not be deleted, all others are.
func TestDeleteHoldsUpNobody(t *testing.T) {
	t.Parallel()
	h := new(Home)
	f := &Family{Home: h, Def: &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"l"}}, Open: []string{"l"}, IsVec: true}
	f.SetMax(-1)
	f.Prepare()
	table := NewTable(f, func(c *tally) string { return c.series.Row.Labels }, func(c *tally) Instrument { return c })
	if _, err := h.Enter(f); err != nil {
		t.Fatal(err)
	}
	with := func(value string) *tally {
		mark := table.Mark()
		if e := table.Find([]string{value}); e != nil {
			return &e.M
		}
		return table.Make([]string{value}, mark)
	}
	const series = 10
	for i := range series {
		with(strconv.Itoa(i)).add()
	}
	kept := with("1")
	asked, made := 0, 0
	n, err := f.Delete(func(labels string) bool {
		if asked++; asked <= 2*series { // of the backend, and of the family
			made++
			done := make(chan struct{})
			go func() {
				with("new " + strconv.Itoa(made)).add()
				close(done)
			}()
			<-done
		}
		return true
	})
	if err != nil || n < series || n > series+made || made < 2*series {
		t.Errorf("%d deleted, with %d more made: %v", n, made, err)
	}
	if with("1") == kept {
		t.Error("a look-up returns a deleted instrument")
	}
	left, _ := f.Delete(func(string) bool { return true })
	if n+left < series+made || table.Len() != 0 {
		t.Errorf("%d and then %d deleted, of %d; %d are left in the table", n, left, series+made, table.Len())
	}
}
