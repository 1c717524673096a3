// Package fleetsim simulates fleets of processes on a store, for thousands of hours in minutes.
//
// Its tests run Syncers as they are in production, with their own goroutines, timers, retries and
// time limits, in the virtual time of testing/synctest. What surrounds them is simulated: clocks,
// random numbers, a network that loses, delays, repeats and reorders requests, and servers that
// restart, fail over and lose data. A seed decides all of it, so that every failure can be repeated
// with -sim.seed, which also shows what has happened. [docs/TESTING.md] has the commands.
//
// # How a seed decides everything
//
// Goroutines that can run at the same instant run in any order. So nothing of importance happens at
// the same instant: each request and each answer takes until an instant, in nanoseconds, that no
// other process has. What a process draws at random comes from a source of its own, and Syncers go
// through maps in order where that decides the order of commits. TestRepeatable compares
// histories event by event.
//
// # What pages must show
//
// A history of a store is a generation of commits; a store that has lost something begins a new
// one. Every page, and every success of Flush, Sync and Close, is evidence: at that place in the
// history, the store had these values. A page must show of each series
//
//   - no more than all processes have counted;
//   - at least what acknowledged publications, and former pages, have shown to be in the part
//     of the history that the store still has;
//   - at least what a process knows that lives and can reach the store, because it has counted that
//     itself or its last page has shown it, once it has had the time to restore it: patience times
//     alive without a failed call.
//
// Some multiples of alive after the end of all faults, all pages are the same, and have everything
// acknowledged and all that living processes have counted; heads, groups and the memory of each
// process are bounded by the number of processes that live; and a series that is deleted is gone,
// and comes back at zero.
//
// # Where pages may go backwards
//
// These are the exceptions, each with the sentence of docs/redis.md that it comes from. Those with
// a switch are checked, too, when it is on; see the table in kinds_test.go.
//
//	exception                                           switch
//	    sentence
//
//	what a killed process had not published             –
//	    kill -9 loses what was counted since the last publication
//	after a loss, the dead that no living process       –
//	knows and the store does not have again
//	    What no survivor has read is lost
//	what a process knows that closes after a loss       close-restores
//	    counts of dead processes are restored by any process that has read them
//	after a loss, what others know, for patience        head-server, unless
//	    [go back] until processes that know more        all was lost
//	    have published again; the first to find an
//	    empty server cannot know that there was data
//	the page at which a process notices a loss          noticed-before
//	    [the same]
//	all, after a Syncer has logged that it cannot       no-limits
//	know what was kept
//	    It then counts from what it knows itself, and logs that
//	    one group's are lost [...], and the log says so
//	the last bits of float sums                         exact-floats
//	    [nothing says so]
//	lower bounds of series that may be deleted          –
//	    A deletion also deletes what other processes count until they learn of it
//
// [docs/TESTING.md]: https://github.com/gotheus/gotheus/blob/main/docs/TESTING.md
package fleetsim
