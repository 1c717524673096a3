//go:build race

package main

func init() { poolsDrop = true }
