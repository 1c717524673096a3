package gotheus

// Sweep lets tests choose when series are looked at for their time to live.
var Sweep = (*Registry).sweep
