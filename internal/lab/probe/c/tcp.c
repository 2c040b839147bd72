/* TCP and its relatives. Arguments: ADDRESS PORT NONCE. */
#include "probe.h"

static int stream(struct address *a, int protocol) { return socket(a->ss.ss_family, SOCK_STREAM, protocol); }

static int by_protocol(char **v, int protocol)
{
	struct address a = parse(v[0], v[1]);
	int fd = stream(&a, protocol);
	if (fd < 0)
		return failed("socket");
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	return send_all(fd, v[2]);
}

static int tcp(int c, char **v) { return by_protocol(v, 0); }
static int mptcp(int c, char **v) { return by_protocol(v, 262); }
static int sctp(int c, char **v) { return by_protocol(v, 132); }

static int nonblock(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = socket(a.ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), e = 0;
	socklen_t l = sizeof e;
	struct pollfd p = {fd, POLLOUT};
	if (connect(fd, (void *)&a.ss, a.len)) {
		if (errno != EINPROGRESS)
			return failed("connect");
		poll(&p, 1, 5000);
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &l);
		if ((errno = e))
			return failed("SO_ERROR");
	}
	fcntl(fd, F_SETFL, 0);
	return send_all(fd, v[2]);
}

static int fastopen_sendto(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = stream(&a, 0);
	if (sendto(fd, v[2], strlen(v[2]), MSG_FASTOPEN, (void *)&a.ss, a.len) < 0)
		return failed("sendto");
	return send_all(fd, v[2]);
}

static int fastopen_sendmsg(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = stream(&a, 0);
	struct iovec io = {v[2], strlen(v[2])};
	struct msghdr m = {&a.ss, a.len, &io, 1};
	if (sendmsg(fd, &m, MSG_FASTOPEN) < 0)
		return failed("sendmsg");
	return send_all(fd, v[2]);
}

static int fastopen_sendmmsg(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = stream(&a, 0);
	struct iovec io = {v[2], strlen(v[2])};
	struct mmsghdr m = {{&a.ss, a.len, &io, 1}};
	if (sendmmsg(fd, &m, 1, MSG_FASTOPEN) < 0)
		return failed("sendmmsg");
	return send_all(fd, v[2]);
}

static int fastopen_connect(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = stream(&a, 0), on = 1;
	if (setsockopt(fd, IPPROTO_TCP, 30, &on, sizeof on))
		return failed("setsockopt");
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	return send_all(fd, v[2]);
}

/* connect with every register's unused half set */
static int highbits(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	long fd = syscall(SYS_socket, a.ss.ss_family | 0x100000000L, SOCK_STREAM | 0x500000000L, 0x700000000L);
	if (fd < 0)
		return failed("socket");
	if (syscall(SYS_connect, fd | 0x900000000L, &a.ss, (long)a.len | 0x300000000L))
		return failed("connect");
	return send_all(fd, v[2]);
}

static int mapped(int c, char **v)
{
	char text[64];
	snprintf(text, sizeof text, "::ffff:%s", v[0]);
	char *w[] = {text, v[1], v[2]};
	return by_protocol(w, 0);
}

/* connect, disconnect with AF_UNSPEC, connect again: ALLOWED PORT then ADDRESS PORT */
static int reconnect(int c, char **v)
{
	struct address first = parse(v[0], v[1]), a = parse(v[2], v[3]);
	struct sockaddr none = {AF_UNSPEC};
	int fd = stream(&a, 0);
	if (connect(fd, (void *)&first.ss, first.len))
		return failed("first");
	if (connect(fd, &none, sizeof none))
		return failed("disconnect");
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	return send_all(fd, v[4]);
}

static int routing(int c, char **v)
{
	struct address via = parse(v[0], v[1]);
	char rth[24] = {0, 2, 2, 1};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	memcpy(rth + 8, &((struct sockaddr_in6 *)&via.ss)->sin6_addr, 16);
	if (setsockopt(fd, IPPROTO_IPV6, 57, rth, sizeof rth))
		return failed("IPV6_RTHDR");
	return done("routing");
}

/* LEVEL OPTION SIZE */
static int option(int c, char **v)
{
	char value[40] = {1};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	if (setsockopt(fd, atoi(v[0]), atoi(v[1]), value, atoi(v[2])))
		return failed("setsockopt");
	return done("option");
}

/* resolves with libc: NAME PORT NONCE */
static int by_name(int c, char **v)
{
	struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *list;
	int e = getaddrinfo(v[0], v[1], &hint, &list), fd = -1;
	if (e) {
		printf("fail %s getaddrinfo\n", gai_strerror(e));
		return 1;
	}
	for (; list; list = list->ai_next) {
		fd = socket(list->ai_family, list->ai_socktype, list->ai_protocol);
		if (!connect(fd, list->ai_addr, list->ai_addrlen))
			return send_all(fd, v[2]);
	}
	return failed("connect");
}

PROBES({"name", by_name}, {"tcp", tcp}, {"mptcp", mptcp}, {"sctp", sctp}, {"nonblock", nonblock},
	{"fastopen-sendto", fastopen_sendto}, {"fastopen-sendmsg", fastopen_sendmsg}, {"fastopen-sendmmsg", fastopen_sendmmsg},
	{"fastopen-connect", fastopen_connect}, {"highbits", highbits}, {"mapped", mapped}, {"reconnect", reconnect},
	{"routing", routing}, {"option", option})
