module github.com/gotheus/gotheus

go 1.25.0
