//go:build purego

package tests_test

// The standard library's maphash also has this build tag, with which it allocates to hash a struct.
const structsAllocate = 1
