package launch

const saRestorer = 0x04000000 // asm/signal.h

// handingOn is the action of a signal that is handed on. On this machine the
// kernel wants to be told how a handler returns.
func handingOn() sigaction {
	return sigaction{handler: handOnPC(), rest: [3]uint64{saOnStack | saRestart | saRestorer, uint64(sigreturnPC())}}
}

func sigreturnPC() uintptr
