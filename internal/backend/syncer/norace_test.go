//go:build !race

package syncer_test

const share = 1
