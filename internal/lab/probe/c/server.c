/* Servers: bind, listen, accept. */
#include "probe.h"

/* serve on ADDRESS PORT: prints the port, then answers one connection */
static int serve(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	socklen_t l = sizeof a.ss;
	int fd = socket(a.ss.ss_family, SOCK_STREAM, 0), on = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (c > 2 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
		return failed("SO_REUSEPORT");
	if (bind(fd, (void *)&a.ss, a.len))
		return failed("bind");
	if (listen(fd, 8))
		return failed("listen");
	getsockname(fd, (void *)&a.ss, &l);
	printf("port %d\n", ntohs(((struct sockaddr_in *)&a.ss)->sin_port));
	for (;;) {
		char b[256];
		int s = accept(fd, 0, 0);
		ssize_t n = read(s, b, sizeof b);
		if (n > 0)
			write(s, b, n);
		close(s);
	}
}

static int shared;
static volatile int stop;

static void *flip(void *p)
{
	for (int on = 0; !stop; on = !on)
		setsockopt(shared, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	return 0;
}

/* a second thread turns SO_REUSEPORT on and off while ADDRESS PORT, which others serve, is bound and listened on for SECONDS */
static int reuse_race(int c, char **v)
{
	struct address a = parse(v[1], v[2]);
	pthread_t t;
	long tries = 0;
	int won = 0;
	shared = socket(a.ss.ss_family, SOCK_STREAM, 0);
	pthread_create(&t, 0, flip, 0);
	do {
		int fd = socket(a.ss.ss_family, SOCK_STREAM, 0);
		dup3(fd, shared, 0);
		close(fd);
		won = !bind(shared, (void *)&a.ss, a.len) && !listen(shared, 8);
		tries++;
	} while (!won && micros() < atoi(v[0]) * 1000000L);
	stop = 1;
	pthread_join(t, 0);
	if (won)
		return done("shared the port");
	printf("%ld tries\n", tries);
	return failed("bind");
}

/* listens without bind */
static int unbound(int c, char **v)
{
	struct sockaddr_in a;
	socklen_t l = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (listen(fd, 1))
		return failed("listen");
	getsockname(fd, (void *)&a, &l);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s, (void *)&a, sizeof a))
		return failed("connect");
	return done("listening");
}

static int bind_only(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = socket(a.ss.ss_family, SOCK_STREAM, 0);
	if (bind(fd, (void *)&a.ss, a.len))
		return failed("bind");
	return done("bound");
}

PROBES({"serve", serve}, {"reuse-race", reuse_race}, {"listen-unbound", unbound}, {"bind", bind_only})
