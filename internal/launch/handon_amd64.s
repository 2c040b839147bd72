#include "textflag.h"

// The handler gets the signal's number in DI. It may use every register: the
// kernel restores them all.
TEXT ·handOn(SB),NOSPLIT|NOFRAME,$0-0
	MOVLQSX	DI, SI
	MOVQ	·handOnTo(SB), DI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$424, AX // SYS_pidfd_send_signal
	SYSCALL
	RET

// rt_sigreturn(2), to which the handler returns.
TEXT ·sigreturn(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ	$15, AX // SYS_rt_sigreturn
	SYSCALL
	INT	$3

// func handOnPC() uintptr
TEXT ·handOnPC(SB),NOSPLIT,$0-8
	LEAQ	·handOn(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func sigreturnPC() uintptr
TEXT ·sigreturnPC(SB),NOSPLIT,$0-8
	LEAQ	·sigreturn(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
