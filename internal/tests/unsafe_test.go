//go:build !purego

package tests_test

const structsAllocate = 0
