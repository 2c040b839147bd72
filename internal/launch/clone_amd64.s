#include "textflag.h"

// func rawClone(flags, pidfd uintptr, first *step, f *failure) (pid, errno uintptr)
//
// The child touches no stack, so it may share the caller's. Registers of the
// child: R12 the step, R13 the failure.
TEXT ·rawClone(SB),NOSPLIT,$0-48
	MOVQ	flags+0(FP), DI
	MOVQ	$0, SI
	MOVQ	pidfd+8(FP), DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	first+16(FP), R12
	MOVQ	f+24(FP), R13
	MOVQ	$56, AX // SYS_clone
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, pid+32(FP)
	MOVQ	$0, errno+40(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, pid+32(FP)
	MOVQ	AX, errno+40(FP)
	RET

child:
	MOVQ	0(R12), AX
	MOVQ	8(R12), DI
	MOVQ	16(R12), SI
	MOVQ	24(R12), DX
	MOVQ	32(R12), R10
	MOVQ	40(R12), R8
	MOVQ	48(R12), R9
	SYSCALL
	MOVQ	72(R12), BX // out
	TESTQ	BX, BX
	JEQ	judge
	MOVQ	AX, (BX)
judge:
	MOVQ	56(R12), CX // mode
	CMPQ	CX, $1      // ignore
	JEQ	next
	CMPQ	AX, $0xfffffffffffff001
	JCC	error
	CMPQ	CX, $3 // exact
	JNE	next
	CMPQ	AX, 64(R12)
	JEQ	next
	MOVQ	$3, AX // ESRCH
	JMP	end
error:
	NEGQ	AX
	CMPQ	CX, $2 // except
	JNE	end
	CMPQ	AX, 64(R12)
	JNE	end
next:
	ADDQ	80(R12), R12
	JMP	child
end:
	MOVQ	R12, 0(R13)
	MOVQ	AX, 8(R13)
	MOVQ	$231, AX // SYS_exit_group
	MOVQ	$125, DI
	SYSCALL
	INT	$3
