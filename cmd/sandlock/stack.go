package main

// growStack gives the calling goroutine room once, while there is little to move.
// Left to itself the stack doubles four times on the way to the command, each
// time with more frames: 0.1 ms of every start.
func growStack()
