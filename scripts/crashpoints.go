//go:build ignore

// The command writes instrumented sources to a directory, and prints the name of a file for "go
// build -overlay", see internal/crashpoints. An environment variable TARGET stands for GOARCH.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/gotheus/gotheus/internal/crashpoints"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: go run scripts/crashpoints.go DIRECTORY")
	}
	if arch := os.Getenv("TARGET"); arch != "" {
		os.Setenv("GOARCH", arch)
	}
	overlay, places, err := crashpoints.Overlay(os.Args[1], crashpoints.Packages...)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%d places", len(places))
	fmt.Println(overlay)
}
