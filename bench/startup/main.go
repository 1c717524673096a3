// Command startup imports the library, does nothing with it, and prints how many goroutines there
// are.
package main

import (
	"fmt"
	"runtime"

	_ "github.com/gotheus/gotheus"
)

func main() { fmt.Println("goroutines", runtime.NumGoroutine()) }
