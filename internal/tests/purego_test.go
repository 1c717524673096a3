//go:build purego

package tests_test

// The standard library's maphash has this build tag, too, and then allocates to hash a struct.
const structsAllocate = 1
