// Command service is the example of the README. Start it twice, with another port, and either page shows
// the total of both.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

var (
	orders  = gotheus.NewCounterVec("shop_orders_total", "Orders taken.", nil, "country", "paid_by")
	latency = gotheus.NewHistogram("shop_order_seconds", "Time to take an order.", nil)
)

func order(w http.ResponseWriter, r *http.Request) {
	defer latency.ObserveSince(time.Now())
	orders.With("SE", "card").Inc()
	fmt.Fprintln(w, "thank you")
}

func main() {
	if err := gotheus.Bind(context.Background(), "shm:///dev/shm/shop"); err != nil {
		log.Print(err) // counting goes on in the heap
	}
	http.HandleFunc("/order", order)
	http.Handle("/metrics", &metrichttp.Handler{})
	log.Print(http.ListenAndServe(os.Args[1], new(metrichttp.Middleware).Wrap(http.DefaultServeMux)))
}
