package open

const largeFile = 0o100000 // O_LARGEFILE of asm-generic/fcntl.h
