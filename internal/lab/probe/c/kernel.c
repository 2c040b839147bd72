/* Other ways into the kernel, and attacks on the supervisor. */
#include "probe.h"

static int sock(int c, char **v)
{
	int fd = socket(atoi(v[0]), atoi(v[1]), atoi(v[2]));
	if (fd < 0)
		return failed("socket");
	return done("socket");
}

static int number(int c, char **v)
{
	long a[6] = {0};
	for (int i = 1; i < c && i < 7; i++)
		a[i - 1] = strtoul(v[i], 0, 0);
	if (syscall(strtoul(v[0], 0, 0), a[0], a[1], a[2], a[3], a[4], a[5]) < 0)
		return failed("syscall");
	return done("syscall");
}

#ifdef __x86_64__
static long int80(long nr, long b, long c, long d)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(b), "c"(c), "d"(d) : "memory", "r8", "r9", "r10", "r11");
	return r;
}

/* i386: socket 359, connect 362, write 4; ADDRESS PORT NONCE */
static int i386(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	char *low = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long fd = int80(359, a.ss.ss_family, SOCK_STREAM, 0);
	if (fd < 0) {
		errno = -fd;
		return failed("socket");
	}
	memcpy(low, &a.ss, a.len);
	strcpy(low + 4096, v[2]);
	long r = int80(362, fd, (long)low, a.len);
	if (r < 0) {
		errno = -r;
		return failed("connect");
	}
	return send_all(fd, v[2]);
}

static int x32(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = syscall(SYS_socket, a.ss.ss_family, SOCK_STREAM, 0);
	if (syscall(0x40000000 + SYS_connect, fd, &a.ss, a.len) < 0)
		return failed("connect");
	return send_all(fd, v[2]);
}
#endif

static int limit(int c, char **v)
{
	struct rlimit one = {1, 1};
	if (prlimit(getppid(), RLIMIT_CPU, &one, 0))
		return failed("prlimit");
	return done("limited");
}

static int signal_parent(int c, char **v)
{
	if (kill(getppid(), atoi(v[0])))
		return failed("kill");
	return done("signalled");
}

static int open_parent(int c, char **v)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", getppid(), v[0]);
	int fd = open(path, O_RDONLY);
	char b[16];
	if (fd < 0 || (strcmp(v[0], "fd/0") && read(fd, b, sizeof b) < 0))
		return failed("open");
	return done("read");
}

static int tiocsti(int c, char **v)
{
	if (syscall(SYS_ioctl, 0, 0x5412 | strtoul(v[0], 0, 0), "x"))
		return failed("ioctl");
	return done("injected");
}

const struct probe kernel_probes[] = {{"socket", sock}, {"syscall", number},
#ifdef __x86_64__
	{"i386", i386}, {"x32", x32},
#endif
	{"prlimit", limit}, {"kill", signal_parent}, {"open-parent", open_parent}, {"tiocsti", tiocsti}, {0}};
