#include "textflag.h"

// The handler gets the signal's number in R0. It may use every register: the
// kernel restores them all, and LR leads there.
TEXT ·handOn(SB),NOSPLIT|NOFRAME,$0-0
	SXTW	R0, R1
	MOVD	$·handOnTo(SB), R9
	MOVD	(R9), R0
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$424, R8 // SYS_pidfd_send_signal
	SVC
	RET

// func handOnPC() uintptr
TEXT ·handOnPC(SB),NOSPLIT,$0-8
	MOVD	$·handOn(SB), R0
	MOVD	R0, ret+0(FP)
	RET
