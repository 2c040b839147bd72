#include "textflag.h"

// func growStack()
TEXT ·growStack(SB),0,$16384-0
	RET
