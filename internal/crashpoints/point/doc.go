// Package point is what instrumented programs call at every point where they may be made to die or
// to stop, see package crashpoints. It works on Linux only.
package point
