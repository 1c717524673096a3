package expo_test

import (
	"fmt"

	"github.com/gotheus/gotheus/expo"
)

// Encoders need no registry. This one writes a family in OpenMetrics with unescaped names.
func ExampleEncoder() {
	e := expo.NewEncoder(expo.Format{Syntax: expo.OpenMetrics1, Escaping: expo.AllowUTF8})
	var page []byte
	page = e.Family(page, &expo.Family{Name: "http.requests_total", Help: "Requests.", Type: expo.Counter})
	page = e.Number(page, `method="GET","server.name"="a"`, &expo.Number{Int: 3})
	page = e.End(page)
	fmt.Print(string(page))
	// Output:
	// # TYPE "http.requests" counter
	// # HELP "http.requests" Requests.
	// {"http.requests_total",method="GET","server.name"="a"} 3
	// # EOF
}

func ExampleEscaping_MetricName() {
	for _, e := range []expo.Escaping{expo.AllowUTF8, expo.Underscores, expo.Dots, expo.Values} {
		fmt.Println(e, e.MetricName("http.server_time"))
	}
	// Output:
	// allow-utf-8 http.server_time
	// underscores http_server_time
	// dots http_dot_server__time
	// values U__http_2e_server__time
}
