package image

import "errors"

// noRandom is getrandom that answers ENOSYS: libraries then make the system call.
var noRandom = []byte{
	0x5f, 0x24, 0x03, 0xd5, // bti c
	0xa0, 0x04, 0x80, 0x92, // mov x0, #-38
	0xc0, 0x03, 0x5f, 0xd6, // ret
}

func clocks(*Layout, int64) ([]edit, error) {
	return nil, errors.New("it cannot be changed on this architecture yet")
}
