package open

const largeFile = 0o400000 // O_LARGEFILE of asm/fcntl.h
