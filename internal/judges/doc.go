// Package judges contains only tests, in which third-party parsers read our pages. It is a separate
// module, so that the library does not depend on them.
package judges
