/* Many connections, many threads, interrupted calls. */
#include "probe.h"

/* holds N connections to ADDRESS PORT, all echoing at once: ADDRESS PORT N */
static int hold(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int n = atoi(v[2]), *fds = calloc(n, sizeof *fds);
	char b;
	for (int i = 0; i < n; i++) {
		fds[i] = socket(a.ss.ss_family, SOCK_STREAM, 0);
		if (fds[i] < 0)
			return failed("socket");
		if (connect(fds[i], (void *)&a.ss, a.len))
			return failed("connect");
	}
	for (int i = 0; i < n; i++)
		if (write(fds[i], "x", 1) != 1 || read(fds[i], &b, 1) != 1)
			return failed("echo");
	return done("held");
}

/* holds N connections to ADDRESS PORT that each sent a request for HOST and got the first byte of an answer, and then sends a second
   one on each: ADDRESS PORT HOST N */
static int hold_http(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int n = atoi(v[3]), *fds = calloc(n, sizeof *fds);
	char q[512], b[4096];
	int len = snprintf(q, sizeof q, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", v[2]);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < n; i++) {
			if (!round) {
				fds[i] = socket(a.ss.ss_family, SOCK_STREAM, 0);
				if (fds[i] < 0)
					return failed("socket");
				if (connect(fds[i], (void *)&a.ss, a.len))
					return failed("connect");
			}
			if (write(fds[i], q, len) != len || read(fds[i], b, sizeof b) < 12 || memcmp(b, "HTTP/1.1 200", 12))
				return failed("request");
		}
	return done("held");
}

static struct address target, closed;
static int wrong;
static void *one(void *p)
{
	int deny = (long)p & 1, fd = socket(target.ss.ss_family, SOCK_STREAM, 0);
	int r = connect(fd, deny ? (void *)&closed.ss : (void *)&target.ss, target.len);
	if (deny ? !(r < 0 && errno == ECONNREFUSED) : r)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
	close(fd);
	return 0;
}

/* ALLOWED PORT DENIED PORT N: every second thread gets each */
static int threads(int c, char **v)
{
	int n = atoi(v[4]);
	pthread_t *t = calloc(n, sizeof *t);
	target = parse(v[0], v[1]);
	closed = parse(v[2], v[3]);
	for (long i = 0; i < n; i++)
		if (pthread_create(&t[i], 0, one, (void *)i))
			return failed("pthread_create");
	for (int i = 0; i < n; i++)
		pthread_join(t[i], 0);
	printf("%s %d wrong\n", wrong ? "fail" : "ok", wrong);
	return wrong != 0;
}

static void ring(int s) {}

/* fills the backlog of ADDRESS PORT so that connects wait */
int fill(struct address *a, int n)
{
	for (int i = 0; i < n; i++) {
		int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fd, (void *)&a->ss, a->len);
	}
	return 0;
}

/* a blocking connect to a full backlog, or with a third argument to what does not answer, ended by alarm(1): prints milliseconds */
static int alarm_connect(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	struct sigaction s = {.sa_handler = ring};
	struct timespec x, y;
	int fd = socket(a.ss.ss_family, SOCK_STREAM, 0);
	if (c < 3)
		fill(&a, 4);
	sigaction(SIGALRM, &s, 0);
	clock_gettime(CLOCK_MONOTONIC, &x);
	alarm(1);
	int r = connect(fd, (void *)&a.ss, a.len), e = errno;
	clock_gettime(CLOCK_MONOTONIC, &y);
	long ms = (y.tv_sec - x.tv_sec) * 1000 + (y.tv_nsec - x.tv_nsec) / 1000000;
	errno = e;
	if (r == 0)
		return done("connected");
	printf("ms %ld\n", ms);
	return failed("connect");
}

static jmp_buf out;
static int rings;
static void ring_twice(int s)
{
	if (++rings == 2)
		siglongjmp(out, 1);
	alarm(1);
}

/* as alarm, with a handler that wants interrupted calls restarted: connect must not return */
static int restart(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	struct sigaction s = {.sa_handler = ring_twice, .sa_flags = SA_RESTART};
	int fd = socket(a.ss.ss_family, SOCK_STREAM, 0);
	sigaction(SIGALRM, &s, 0);
	if (sigsetjmp(out, 1))
		return done("restarted");
	alarm(1);
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	return done("connected");
}

/* a child waits in a blocking connect to ADDRESS PORT; then 100 connects to the
   second ADDRESS PORT: prints the longest in milliseconds */
static int stalled(int c, char **v)
{
	struct address slow = parse(v[0], v[1]), a = parse(v[2], v[3]);
	struct timespec x, y;
	long worst = 0;
	fill(&slow, 4);
	pid_t pid = fork();
	if (pid < 0)
		return failed("fork");
	if (!pid) {
		int fd = socket(slow.ss.ss_family, SOCK_STREAM, 0);
		_exit(connect(fd, (void *)&slow.ss, slow.len) != 0);
	}
	for (int i = 0; i < 100; i++) {
		int fd = socket(a.ss.ss_family, SOCK_STREAM, 0);
		clock_gettime(CLOCK_MONOTONIC, &x);
		if (connect(fd, (void *)&a.ss, a.len))
			return failed("connect");
		clock_gettime(CLOCK_MONOTONIC, &y);
		long ms = (y.tv_sec - x.tv_sec) * 1000 + (y.tv_nsec - x.tv_nsec) / 1000000;
		worst = ms > worst ? ms : worst;
		close(fd);
	}
	int waiting = waitpid(pid, 0, WNOHANG) == 0;
	kill(pid, SIGKILL);
	printf("ok waiting=%d worst=%ld\n", waiting, worst);
	return 0;
}

static int attempt(const char *what, int r)
{
	printf("%s %s %d\n", r < 0 ? "fail" : "ok", what, r < 0 ? errno : 0);
	return r;
}

/* waits for its parent to change, then tries all that makes or names a connection: ADDRESS PORT UNIX-PATH NONCE; the UDP sockets were
   made, and one connected to ADDRESS, before */
static int orphan(int c, char **v)
{
	pid_t parent = getppid();
	struct address a = parse(v[0], v[1]), u = unix_address(v[2]), any = parse("127.0.0.1", "0");
	struct iovec io = {v[3], strlen(v[3])};
	struct msghdr m = {&a.ss, a.len, &io, 1};
	struct addrinfo *list;
	signal(SIGHUP, SIG_IGN);
	int tcp = socket(AF_INET, SOCK_STREAM, 0), server = socket(AF_INET, SOCK_STREAM, 0), un = socket(AF_UNIX, SOCK_STREAM, 0);
	int udp = socket(AF_INET, SOCK_DGRAM, 0), peer = socket(AF_INET, SOCK_DGRAM, 0);
	connect(peer, (void *)&a.ss, a.len);
	printf("ready\n");
	while (getppid() == parent)
		usleep(1000);
	if (!attempt("connect", connect(tcp, (void *)&a.ss, a.len)))
		send(tcp, v[3], strlen(v[3]), MSG_NOSIGNAL);
	attempt("bind", bind(server, (void *)&any.ss, any.len));
	attempt("listen", listen(server, 1));
	if (!attempt("unix", connect(un, (void *)&u.ss, u.len)))
		send(un, v[3], strlen(v[3]), MSG_NOSIGNAL);
	attempt("datagram", socket(AF_INET, SOCK_DGRAM, 0));
	attempt("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
	printf("%s resolve\n", getaddrinfo("four.test", "1", 0, &list) ? "fail" : "ok");
	/* what these say does not matter, what arrives does */
	sendto(udp, v[3], strlen(v[3]), 0, (void *)&a.ss, a.len);
	sendmsg(udp, &m, 0);
	send(peer, v[3], strlen(v[3]), 0);
	printf("end\n");
	return 0;
}

PROBES({"hold", hold}, {"hold-http", hold_http}, {"threads", threads}, {"alarm", alarm_connect}, {"restart", restart}, {"stalled", stalled},
	{"orphan", orphan})
