// Package tests has the black-box tests of package gotheus: what they use is its API. Tests that
// need the inside of a package, and examples, are beside what they are about.
package tests
