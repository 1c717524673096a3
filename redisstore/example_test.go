package redisstore_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/redisstore"
)

// Most programs import the package and bind by a URL. GOTHEUS_BACKEND in the environment does the
// same.
func Example() {
	if err := gotheus.Bind(context.Background(), "redis://user:password@redis.internal:6379/0?ns=shop"); err != nil {
		log.Print(err) // counting goes on in the heap
	}
}

// A program's own client.
func ExampleNew() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "redis.internal:6379",
		DialTimeout:           2 * time.Second,
		ContextTimeoutEnabled: true,
	})
	config, err := redisstore.New(client, &redisstore.Options{Namespace: "shop", Interval: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	if err := gotheus.BindStore(context.Background(), config); err != nil {
		log.Fatal(err)
	}
}

// Options are checked before anything is opened.
func ExampleNew_invalid() {
	client := redis.NewClient(&redis.Options{Addr: "redis.internal:6379"})
	defer client.Close()
	_, err := redisstore.New(client, &redisstore.Options{Shards: 100})
	fmt.Println(err)
	// Output: redisstore: invalid argument: shards=100: must be from 1 to 64
}

// Open is for a program that changes the Config before it binds it.
func ExampleOpen() {
	config, err := redisstore.Open("redis://redis.internal:6379/0?ns=shop")
	if err != nil {
		log.Fatal(err)
	}
	config.Options.ServeStale = true
	if err := gotheus.BindStore(context.Background(), config); err != nil {
		log.Fatal(err)
	}
}

// The memory of a namespace, through a program's own client.
func ExampleNewNamespace() {
	client := redis.NewClient(&redis.Options{Addr: "redis.internal:6379"})
	defer client.Close()
	ns, err := redisstore.NewNamespace(client, "shop")
	if err != nil {
		log.Fatal(err)
	}
	bytes, err := ns.Size(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes, "bytes")
}

// Removing a namespace that no process uses any more.
func ExampleOpenNamespace() {
	ns, err := redisstore.OpenNamespace("redis://redis.internal:6379/0?ns=shop")
	if err != nil {
		log.Fatal(err)
	}
	defer ns.Close()
	if err := ns.Remove(context.Background()); err != nil {
		log.Fatal(err)
	}
}
