module github.com/gotheus/gotheus/compress

go 1.26.0

require (
	github.com/gotheus/gotheus v0.1.0
	github.com/klauspost/compress v1.20.4
)
