module github.com/gotheus/gotheus/cmd/gotheus

go 1.26.0

require github.com/gotheus/gotheus v0.1.0
