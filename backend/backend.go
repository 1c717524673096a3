// Package backend is the contract between instruments and the place where their values live.
//
// Every value is made of ordinary 8-byte words ([Words]) that instruments update with atomic
// operations. A [Backend] decides only where the words of a series are and what happens to them in
// the background; no update ever calls it. A family ([Family]) fixes how many words each of its
// series has and what they mean; a series is identified by its family and its label text
// ([Family.LabelText]), which is the same in every process.
//
// The package imports nothing of gotheus, so that a backend can be written outside of it.
package backend

import (
	"context"
	"errors"
	"sync/atomic"
)

var (
	// ErrClosed is returned by calls on a closed backend.
	ErrClosed = errors.New("backend: closed")
	// ErrFull says that there is no room for another family or series: the configured limit, the
	// disk or the memory is used up. The caller goes on in the heap and may ask again later.
	ErrFull = errors.New("backend: no room")
	// ErrBusy says that a series could not be created at once because another process holds the
	// lock for creation. The caller goes on in the heap and asks again later.
	ErrBusy = errors.New("backend: busy")
)

// Words are the live words of one series. Their number and meaning are the family's, see [Family.Words].
type Words = []atomic.Uint64

// Series is one row of a [Group].
type Series struct {
	Labels string // label text, see Family.LabelText
	Words  Words  // live; only to be read atomically
}

// Group is a family with its series, as [Backend.Walk] saw them. Series are in ascending order of
// Labels. Neither the group nor its slices may be changed.
type Group struct {
	Family *Family
	Series []Series
}

// Backend places words. All methods may be called concurrently. None of them is called by an
// update of a metric, so all of them may lock; only Sync, Flush and Close may take long, and must
// then heed their context.
type Backend interface {
	// Declare makes a family known, so that every process shows its help and type even while it
	// has no series. Declaring an equal family again is free. f must be valid and must not be
	// changed later. The error may wrap ErrFull, ErrBusy or ErrClosed.
	Declare(f *Family) error

	// Cells returns the words of a series, which it creates at zero if no process has done so yet.
	// It declares the family. Two calls for equal families with the same labels return the same
	// words, in whatever process. Words stay valid as long as they are reachable, also after
	// Close. labels is kept by the backend, the caller must not pass a string that may change.
	// The error may wrap ErrFull, ErrBusy or ErrClosed.
	Cells(f *Family, labels string) (Words, error)

	// Sync brings Walk up to date with what other processes did. On error Walk has the last known
	// state.
	Sync(ctx context.Context) error

	// Walk returns all groups by ascending name, those of one name newest first: also families
	// and series that this process never asked for. The result is a snapshot of what exists; the
	// words in it are live.
	Walk() []Group

	// Flush returns when everything counted before the call is durable by the backend's own
	// definition.
	Flush(ctx context.Context) error

	// Close flushes and leaves. Words remain usable; updates made to them after Close may be seen
	// by nobody.
	Close(ctx context.Context) error
}
