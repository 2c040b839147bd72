// Package rlimit reads RLIMIT_NOFILE before package os raises it. It imports
// nothing, so that Go initialises it before packages os and syscall.
package rlimit

// NoFile is the soft and the hard limit that the process was started with, both
// 0 if they could not be read (getrlimit(2)).
var NoFile = original()

func original() (limit [2]uint64) {
	prlimit(&limit)
	return limit
}

//go:noescape
func prlimit(limit *[2]uint64)
