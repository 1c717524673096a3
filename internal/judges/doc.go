// Package judges has tests only: parsers that are not ours read the pages that we write. They are a
// module of their own, so that the library does not depend on them.
package judges
