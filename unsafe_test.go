//go:build !purego

package gotheus_test

const structsAllocate = 0
