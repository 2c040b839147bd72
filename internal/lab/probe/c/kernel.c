/* Other ways into the kernel, and attacks on the supervisor. */
#include "probe.h"

static int sock(int c, char **v)
{
	int fd = socket(atoi(v[0]), atoi(v[1]), atoi(v[2]));
	if (fd < 0)
		return failed("socket");
	return done("socket");
}

/* NUMBER ARGUMENTS: "P" is the parent's process number, "B" a buffer, "H" before a number sets its high half */
static int number(int c, char **v)
{
	static char buffer[4096];
	unsigned long a[6] = {0};
	for (int i = 1; i < c && i < 7; i++) {
		int high = v[i][0] == 'H';
		char *text = v[i] + high;
		a[i - 1] = *text == 'P' ? getppid() : *text == 'B' ? (unsigned long)buffer : strtoul(text, 0, 0);
		if (high)
			a[i - 1] |= 0x5a5a5a5aUL << 32;
	}
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

/* prints FAMILY TYPE RESULT for every family and type, the latter in the order of the kernel */
static int families(int c, char **v)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET};
	for (int f = 0; f <= 46; f++)
		for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
			int fd = socket(f, types[i], 0);
			printf("%d %d %d\n", f, types[i], fd < 0 ? errno : 0);
			close(fd);
		}
	return 0;
}

/* a signal by pidfd_send_signal, tgkill to each thread, rt_sigqueueinfo and F_SETOWN: fails when all do */
static int signals(int c, char **v)
{
	int p = getppid(), fd = syscall(SYS_pidfd_open, p, 0), pair[2], sent = 0;
	char path[64];
	siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};
	sent += fd >= 0 && !syscall(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0);
	sent += !syscall(SYS_rt_sigqueueinfo, p, SIGKILL, &info);
	snprintf(path, sizeof path, "/proc/%d/task", p);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		sent += atoi(e->d_name) && (!syscall(SYS_tgkill, p, atoi(e->d_name), SIGKILL) || !syscall(SYS_tkill, atoi(e->d_name), SIGKILL));
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	fcntl(pair[0], F_SETSIG, SIGKILL);
	fcntl(pair[0], F_SETOWN, p);
	fcntl(pair[0], F_SETFL, O_ASYNC);
	write(pair[1], "x", 1);
	if (sent)
		return done("signalled");
	errno = EPERM;
	return failed("signals");
}

static int write_parent(int c, char **v)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", getppid(), v[0]);
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, v[1], strlen(v[1])) < 0)
		return failed("write");
	return done("written");
}

/* prints the effective user and whether no_new_privs holds */
static int whoami(int c, char **v)
{
	printf("ok uid %d nnp %d\n", geteuid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	return 0;
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

PROBES({"socket", sock}, {"syscall", number},
#ifdef __x86_64__
	{"i386", i386}, {"x32", x32},
#endif
	{"prlimit", limit}, {"kill", signal_parent}, {"open-parent", open_parent}, {"write-parent", write_parent},
	{"families", families}, {"signals", signals}, {"whoami", whoami}, {"tiocsti", tiocsti})
