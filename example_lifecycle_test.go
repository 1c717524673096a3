package gotheus_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
)

// A user's session ends. The next update of an instrument that was kept would bring its series
// back, from zero.
func ExampleVec_Delete() {
	r := gotheus.NewRegistry(nil)
	sessions := r.NewCounterVec("session_requests_total", "Requests of sessions.", nil, "user")
	ann := sessions.With("ann")
	ann.Add(5)
	fmt.Println(sessions.Delete("ann"), sessions.Delete("bob"))
	ann.Inc()
	show(r)
	// Output:
	// true false
	// session_requests_total{user="ann"} 1
}

// A tenant leaves, with all its series.
func ExampleVec_DeleteMatching() {
	r := gotheus.NewRegistry(nil)
	requests := r.NewCounterVec("requests_total", "Requests served.", nil, "tenant", "path")
	requests.With("acme", "/").Inc()
	requests.With("acme", "/cart").Inc()
	requests.With("other", "/").Inc()
	fmt.Println(requests.DeleteMatching(gotheus.Labels{"tenant": "acme"}))
	show(r)
	// Output:
	// 2
	// requests_total{path="/",tenant="other"} 1
}

// All series of a family, or those of a Partial.
func ExampleVec_DeleteAll() {
	r := gotheus.NewRegistry(nil)
	queues := r.NewGaugeVec("queue_depth", "Messages waiting.", nil, "host", "queue")
	for _, host := range []string{"a", "b"} {
		queues.With(host, "mail").Set(3)
		queues.With(host, "print").Set(4)
	}
	fmt.Println(queues.Partial(gotheus.Labels{"host": "b"}).DeleteAll())
	show(r)
	fmt.Println(queues.DeleteAll())
	// Output:
	// 2
	// queue_depth{host="a",queue="mail"} 3
	// queue_depth{host="a",queue="print"} 4
	// 2
}

func ExampleVecOf_Delete() {
	r := gotheus.NewRegistry(nil)
	type request struct{ Tenant, Path string }
	requests := gotheus.Must(gotheus.TryNewVecOf[request, gotheus.Counter](r, "requests_total", "Requests served.", nil))
	requests.With(request{"acme", "/"}).Inc()
	requests.With(request{"acme", "/cart"}).Inc()
	fmt.Println(requests.Delete(request{"acme", "/"}))
	fmt.Println(requests.DeleteMatching(gotheus.Labels{"tenant": "acme"}))
	fmt.Println(requests.DeleteAll())
	// Output:
	// true
	// 1
	// 0
}

func ExampleCounterOptions_timeToLive() {
	sessions := new(gotheus.Registry).NewGaugeVec("session_bytes", "Memory of sessions.", &gotheus.GaugeOptions{
		TTL: time.Hour, // gone an hour after the last update
	}, "user")
	sessions.With("ann").Set(1 << 20)
}

func ExampleRegistry_HideFamily() {
	r := new(gotheus.Registry)
	c := r.NewCounter("old_total", "No longer wanted.", nil)
	r.HideFamily("old_total")
	c.Inc() // unseen
	var page strings.Builder
	r.WriteText(&page)
	fmt.Println(page.Len())
	// Output: 0
}
