//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// An instance is alive as long as it holds the lock of its id, which the kernel releases when its
// process ends, however that happens. The lock of a slot only reserves the slot: until the new
// owner has written its id, the slot still has the id of a dead instance. Nobody has to clean up
// after a dead instance: its parts carry its id, and stop counting when the slot has another id or
// nobody holds the lock of that id.

// Instances returns the processes that have the file open, and those that died while they had it
// open and whose slot is not reused yet. It returns nil after Close.
func (b *Backend) Instances() []Instance {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil
	}
	return listInstances(b.header, b.mem, b.alive)
}

// alive reports whether the instance with that id is alive.
func (b *Backend) alive(id uint64) bool { return id == b.id || idLocked(b.file, id) }

// idLocked reports whether another instance holds the lock of an id.
func idLocked(f *os.File, id uint64) bool {
	return id != 0 && id < maxTickets && locked(f, idLock+int64(id))
}

func listInstances(h *header, mem memory, alive func(id uint64) bool) (list []Instance) {
	for i := range int(h.instances) {
		at := h.instance(i)
		id := mem.u64(at + insID).Load()
		if id == 0 {
			continue
		}
		p := mem[at : at+instanceSize]
		host, _, _ := bytes.Cut(p[insHost:insSeen], []byte{0})
		list = append(list, Instance{
			ID:     id,
			Number: i,
			Host:   string(host),
			PID:    int(order.Uint32(p[insPID:])),
			Start:  time.Unix(0, int64(order.Uint64(p[insStart:]))),
			Alive:  alive(id),
		})
	}
	return list
}

// join takes the first slot of the instance table that is free or belongs to a dead process. Taking
// the first one keeps the number of a series' parts at most the highest number of concurrent
// instances. A slot that rests is taken only if there is no other.
func (s *segment) join() (slot int, id uint64, err error) {
	slot, id, err = s.joinUnless(func(i int) bool { return locked(s.file, restLock+int64(i)) })
	if errors.Is(err, errNoSlot) {
		slot, id, err = s.joinUnless(func(int) bool { return false })
	}
	if errors.Is(err, errNoSlot) {
		err = fmt.Errorf("shm: %s: %d processes have it open, which is the most that a file can have: "+
			"let some of them use another file, or end some: %w", s.file.Name(), s.instances, backend.ErrBusy)
	}
	return slot, id, err
}

var errNoSlot = errors.New("shm: no slot is free")

func (s *segment) joinUnless(rests func(slot int) bool) (slot int, id uint64, err error) {
	for i := range int(s.instances) {
		ok, err := lock(s.file, lockByte+1+int64(i))
		if err != nil {
			return 0, 0, err
		}
		if !ok {
			continue
		}
		if rests(i) {
			unlock(s.file, lockByte+1+int64(i))
			continue
		}
		at := s.instance(i)
		// so that a half-written slot passes neither for the old nor for the new process
		s.mem.u64(at + insID).Store(0)
		p := s.mem[at : at+instanceSize]
		clear(p[insStart:])
		order.PutUint64(p[insStart:], uint64(time.Now().UnixNano()))
		order.PutUint32(p[insPID:], uint32(os.Getpid()))
		host, _ := os.Hostname()
		copy(p[insHost:insSeen], host)
		id := s.mem.u64(offTickets).Add(1)
		ok, err = id != 0 && id < maxTickets, ErrFormat
		if ok {
			ok, err = lock(s.file, idLock+int64(id))
		}
		if !ok || err != nil {
			unlock(s.file, lockByte+1+int64(i))
			return 0, 0, fmt.Errorf("shm: %s: cannot take the lock of instance %d: %w", s.file.Name(), id, cmp.Or(err, backend.ErrBusy))
		}
		s.own = id
		s.mem.u64(at + insID).Store(id)
		return i, id, nil
	}
	return 0, 0, errNoSlot
}

// restFor is longer than any update takes, even if its goroutine is suspended.
const restFor = 10 * time.Minute

// rest keeps a slot from others for restFor, or until the process ends: an update that began before
// Close may still write to the parts of this instance, which the next instance in the slot would
// take over. keep says that the lock is one of s.file, which must stay open.
func (s *segment) rest(slot int) (keep bool, err error) {
	mappings.Lock()
	defer mappings.Unlock()
	m := mappings.of(s.mem)
	if m.resting == nil {
		m.resting, m.timers, keep = s.file, make(map[int]*time.Timer), true
	}
	f, at := m.resting, restLock+int64(slot)
	if _, err := lock(f, at); err != nil {
		return keep, err
	}
	if t := m.timers[slot]; t != nil {
		t.Reset(restFor)
	} else {
		m.timers[slot] = time.AfterFunc(restFor, func() { unlock(f, at) })
	}
	return keep, nil
}

func (s *segment) leave(slot int, id uint64) {
	s.mem.u64(s.instance(slot) + insID).Store(0)
	unlock(s.file, idLock+int64(id))
	unlock(s.file, lockByte+1+int64(slot))
}

// instance returns the offset of a slot.
func (h *header) instance(i int) uint64 { return h.instanceAt + uint64(i)*instanceSize }
