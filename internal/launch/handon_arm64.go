package launch

// handingOn is the action of a signal that is handed on.
func handingOn() sigaction {
	return sigaction{handler: handOnPC(), rest: [3]uint64{saOnStack | saRestart}}
}
