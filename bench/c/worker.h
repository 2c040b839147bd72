#ifndef WORKER_H
#define WORKER_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A command does something n times; the words behind its name and number are
   its arguments. It returns 0, or -1 with errno set. */
struct command {
	const char *name;
	int (*run)(int n, int argc, char **argv);
};

extern const struct command call_commands[], net_commands[];

/* ns on the wall and on the processors, children included, that the running
   command wants to be charged with; 0 means all of its time */
extern long charged_wall;

long now(void);
int minimal(char **argv);
#endif
