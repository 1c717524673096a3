module github.com/gotheus/gotheus

go 1.26.0
