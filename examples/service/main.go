// Command service is the example of the README. Start it twice, with another port, and either page
// shows the total of both.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

var orders = gotheus.NewCounterVec("shop_orders_total", "Orders taken.", nil, "country", "paid_by")

func order(w http.ResponseWriter, r *http.Request) {
	orders.With("SE", "card").Inc()
	fmt.Fprintln(w, "thank you")
}

func main() {
	if err := gotheus.Bind(context.Background(), "shm:///dev/shm/shop"); err != nil {
		log.Print(err) // counting goes on in the heap
	}
	http.HandleFunc("/order", order)
	http.Handle("/metrics", &metrichttp.Handler{})
	log.Print(http.ListenAndServe(os.Args[1], nil))
}
