/* Loops of one system call each. */
#include "worker.h"

#define REPEAT(call) \
	for (int i = 0; i < n; i++) \
		if ((call) < 0) \
			return -1; \
	return 0

static int zero = -1, null = -1, pair[2];
static char byte;

static int open_all(void)
{
	if (zero >= 0)
		return 0;
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (zero < 0 || null < 0)
		return -1;
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
}

#define LOOP(name, call) \
	static int name##_loop(int n, int argc, char **argv) \
	{ \
		if (open_all()) \
			return -1; \
		REPEAT(call); \
	}

static int message(int fd, int out)
{
	struct iovec v = {&byte, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	return out ? sendmsg(fd, &m, 0) : recvmsg(fd, &m, 0);
}

static int mapping(void)
{
	void *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? -1 : munmap(p, 65536);
}

static int entries(void)
{
	static char buf[32768];
	static int dir = -1;
	if (dir < 0 && (dir = open("/usr/bin", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	if (lseek(dir, 0, SEEK_SET))
		return -1;
	return syscall(SYS_getdents64, dir, buf, sizeof buf);
}

static int child(int (*end)(void))
{
	pid_t pid = fork();
	if (!pid)
		_exit(end());
	return pid < 0 ? -1 : waitpid(pid, 0, 0);
}

static int nothing(void)
{
	return 0;
}

static int program(void)
{
	char *argv[] = {"/bin/true", 0}, *env[] = {0};
	return execve(argv[0], argv, env);
}

static struct stat info;
static struct pollfd polled;

LOOP(read, read(zero, &byte, 1))
LOOP(write, write(null, &byte, 1))
LOOP(send, send(pair[0], &byte, 1, 0) < 0 ? -1 : recv(pair[1], &byte, 1, 0))
LOOP(sendto, sendto(pair[0], &byte, 1, 0, 0, 0) < 0 ? -1 : recvfrom(pair[1], &byte, 1, 0, 0, 0))
LOOP(sendmsg, message(pair[0], 1) < 0 ? -1 : message(pair[1], 0))
LOOP(dup, close(dup(zero)))
LOOP(poll, poll(&polled, 1, 0))
LOOP(open, close(open("/etc/passwd", O_RDONLY | O_CLOEXEC)))
LOOP(stat, stat("/etc/passwd", &info))
LOOP(getdents, entries())
LOOP(mmap, mapping())
LOOP(fork, child(nothing))
LOOP(execve, child(program))

const struct command call_commands[] = {{"read", read_loop}, {"write", write_loop}, {"send", send_loop}, {"sendto", sendto_loop},
	{"sendmsg", sendmsg_loop}, {"dup", dup_loop}, {"poll", poll_loop}, {"open", open_loop}, {"stat", stat_loop},
	{"getdents", getdents_loop}, {"mmap", mmap_loop}, {"fork", fork_loop}, {"execve", execve_loop}, {0}};
