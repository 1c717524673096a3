// Package expvars collects the variables of package expvar. It is a separate package since
// importing expvar adds a handler for /debug/vars to http.DefaultServeMux.
package expvars

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"slices"
	"strings"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Collector collects variables of package expvar, which describe the process, see
// [gotheus.ProcessCollector]. The zero value collects all that are numbers, booleans (1 or 0), or
// objects of these, as untyped families. Their names are expvar_ and the variable's name, with
// invalid characters replaced by _; objects have a label "key". Others are skipped.
type Collector struct {
	// Vars selects variables by name and says how to show them. Nil selects all. A variable
	// that does not exist is skipped. One that does not match its Var, or whose Var has an
	// invalid Type, is an error, and its family is omitted.
	Vars map[string]Var
}

// Var says how a variable is shown.
type Var struct {
	Name, Help string    // of the family
	Type       expo.Type // expo.Counter, expo.Gauge or expo.Untyped (zero)
	// Labels are the label names for the keys of the variable's objects, one for each level:
	// none for a number, one for an [expvar.Map] of numbers.
	Labels []string
}

// PerProcess implements gotheus.ProcessCollector.
func (c *Collector) PerProcess() {}

// Collect implements gotheus.Collector.
func (c *Collector) Collect(_ context.Context, s *gotheus.Sink) error {
	if c.Vars == nil {
		c.collectAll(s)
		return nil
	}
	for name, v := range c.Vars {
		variable := expvar.Get(name)
		if variable == nil {
			continue
		}
		rows, err := read(variable, len(v.Labels), true)
		if err != nil {
			s.Error(fmt.Errorf("expvars: variable %q: %w", name, err))
			continue
		}
		p := s.Untyped
		switch v.Type {
		case expo.Untyped:
		case expo.Counter:
			p = s.Counter
		case expo.Gauge:
			p = s.Gauge
		default:
			s.Error(fmt.Errorf("expvars: variable %q: Type is %v: must be counter, gauge or untyped", name, v.Type))
			continue
		}
		points := p(v.Name, v.Help, v.Labels...)
		for _, r := range rows {
			points.Put(r.value, r.keys...)
		}
	}
	return nil
}

func (c *Collector) collectAll(s *gotheus.Sink) {
	taken := make(map[string]bool)
	var list []expvar.KeyValue
	// a variable that hangs must not block Publish
	expvar.Do(func(kv expvar.KeyValue) { list = append(list, kv) })
	for _, kv := range list {
		name := "expvar_" + sanitize(kv.Key)
		if taken[name] {
			continue // two names that differ only in invalid characters
		}
		help := fmt.Sprintf("The variable %q of package expvar.", kv.Key)
		for depth, labels := range [][]string{nil, {"key"}} {
			rows, err := read(kv.Value, depth, false)
			if errors.Is(err, errPanic) {
				s.Error(fmt.Errorf("expvars: variable %q: %w", kv.Key, err))
				break
			}
			if err == nil && len(rows) > 0 {
				taken[name] = true
				points := s.Untyped(name, help, labels...)
				for _, r := range rows {
					points.Put(r.value, r.keys...)
				}
				break
			}
		}
	}
}

var errPanic = errors.New("its function panics")

type row struct {
	value float64
	keys  []string
}

// read returns the numbers at this depth of nested objects. Other values at that depth are an error
// if strict is set or depth is 0, and skipped otherwise.
func read(v expvar.Var, depth int, strict bool) (rows []row, err error) {
	defer func() {
		if p := recover(); p != nil {
			rows, err = nil, fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	var tree any
	if err := json.Unmarshal([]byte(v.String()), &tree); err != nil {
		return nil, err
	}
	var walk func(tree any, keys []string) error
	walk = func(tree any, keys []string) error {
		if len(keys) == depth {
			switch x := tree.(type) {
			case float64:
				rows = append(rows, row{x, keys})
			case bool:
				n := 0.0
				if x {
					n = 1
				}
				rows = append(rows, row{n, keys})
			default:
				if strict || depth == 0 {
					return fmt.Errorf("it has a %T at %q, not a number", tree, keys)
				}
			}
			return nil
		}
		object, ok := tree.(map[string]any)
		if !ok {
			return fmt.Errorf("it has a %T at %q, not an object", tree, keys)
		}
		for key, below := range object {
			if err := walk(below, append(slices.Clone(keys), key)); err != nil {
				return err
			}
		}
		return nil
	}
	err = walk(tree, nil)
	return rows, err
}

func sanitize(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}
