#include "textflag.h"

// func rawClone(flags, pidfd uintptr, first *step, f *failure) (pid, errno uintptr)
//
// The child touches no stack, so it may share the caller's. Registers of the
// child: R19 the step, R20 the failure.
TEXT ·rawClone(SB),NOSPLIT,$0-48
	MOVD	flags+0(FP), R0
	MOVD	$0, R1
	MOVD	pidfd+8(FP), R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	first+16(FP), R19
	MOVD	f+24(FP), R20
	MOVD	$220, R8 // SYS_clone
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, pid+32(FP)
	MOVD	ZR, errno+40(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	$-1, R4
	MOVD	R4, pid+32(FP)
	MOVD	R0, errno+40(FP)
	RET

child:
	MOVD	0(R19), R8
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	40(R19), R4
	MOVD	48(R19), R5
	SVC
	MOVD	72(R19), R9 // out
	CBZ	R9, judge
	MOVD	R0, (R9)
judge:
	MOVD	56(R19), R10 // mode
	MOVD	64(R19), R11 // arg
	CMP	$1, R10      // ignore
	BEQ	next
	CMN	$4095, R0
	BCS	error
	CMP	$3, R10 // exact
	BNE	next
	CMP	R11, R0
	BEQ	next
	MOVD	$3, R0 // ESRCH
	B	end
error:
	NEG	R0, R0
	CMP	$2, R10 // except
	BNE	end
	CMP	R11, R0
	BNE	end
next:
	MOVD	80(R19), R12
	ADD	R12, R19
	B	child
end:
	MOVD	R19, 0(R20)
	MOVD	R0, 8(R20)
	MOVD	$94, R8 // SYS_exit_group
	MOVD	$125, R0
	SVC
	BRK
