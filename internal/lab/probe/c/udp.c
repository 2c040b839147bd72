/* The four ways to send a datagram. Arguments: ADDRESS PORT NONCE. */
#include "probe.h"

static int answer(int fd)
{
	char b[256];
	struct pollfd p = {fd, POLLIN};
	lap();
	if (poll(&p, 1, 100) == 1 && recv(fd, b, sizeof b, 0) < 0)
		return failed("recv");
	return p.revents & POLLIN ? done("answered") : (errno = ETIMEDOUT, failed("no answer"));
}

static int udp(struct address *a)
{
	return socket(a->ss.ss_family, SOCK_DGRAM, 0);
}

static int by_sendto(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = udp(&a);
	if (fd < 0)
		return failed("socket");
	if (sendto(fd, v[2], strlen(v[2]), 0, (void *)&a.ss, a.len) < 0)
		return failed("sendto");
	return answer(fd);
}

static int by_connect(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = udp(&a);
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	if (send(fd, v[2], strlen(v[2]), 0) < 0)
		return failed("send");
	return answer(fd);
}

static int by_sendmsg(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = udp(&a);
	struct iovec io = {v[2], strlen(v[2])};
	struct msghdr m = {&a.ss, a.len, &io, 1};
	if (sendmsg(fd, &m, 0) < 0)
		return failed("sendmsg");
	return answer(fd);
}

static int by_sendmmsg(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = udp(&a);
	struct iovec io = {v[2], strlen(v[2])};
	struct mmsghdr m[2] = {{{&a.ss, a.len, &io, 1}}, {{&a.ss, a.len, &io, 1}}};
	if (sendmmsg(fd, m, 2, 0) < 0)
		return failed("sendmmsg");
	return answer(fd);
}

/* how a datagram leaves a connected socket */
static struct msghdr plain(struct iovec *io) { return (struct msghdr){0, 0, io, 1}; }
static ssize_t w_write(int fd, char *t) { return write(fd, t, strlen(t)); }
static ssize_t w_sendto(int fd, char *t) { return sendto(fd, t, strlen(t), 0, 0, 0); }
static ssize_t w_sendmsg(int fd, char *t)
{
	struct iovec io = {t, strlen(t)};
	struct msghdr m = plain(&io);
	return sendmsg(fd, &m, 0);
}
static ssize_t w_sendmmsg(int fd, char *t)
{
	struct iovec io = {t, strlen(t)};
	struct mmsghdr m = {plain(&io)};
	return sendmmsg(fd, &m, 1, 0);
}

static int connected(char **v, ssize_t (*leave)(int fd, char *text))
{
	struct address a = parse(v[0], v[1]);
	int fd = udp(&a);
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	if (leave(fd, v[2]) < 0)
		return failed("send");
	return answer(fd);
}

static int c_write(int c, char **v) { return connected(v, w_write); }
static int c_sendto(int c, char **v) { return connected(v, w_sendto); }
static int c_sendmsg(int c, char **v) { return connected(v, w_sendmsg); }
static int c_sendmmsg(int c, char **v) { return connected(v, w_sendmmsg); }

/* connected to a first peer, a send that names a second: FIRST PORT then ADDRESS PORT NONCE */
static int other_peer(int c, char **v)
{
	struct address first = parse(v[0], v[1]), a = parse(v[2], v[3]);
	int fd = udp(&a);
	if (connect(fd, (void *)&first.ss, first.len))
		return failed("connect");
	if (sendto(fd, v[4], strlen(v[4]), 0, (void *)&a.ss, a.len) < 0)
		return failed("sendto");
	return answer(fd);
}

/* connected, disconnected by AF_UNSPEC, then sent to a second peer: FIRST PORT then ADDRESS PORT NONCE */
static int unspec(int c, char **v)
{
	struct address first = parse(v[0], v[1]), a = parse(v[2], v[3]);
	struct sockaddr none = {AF_UNSPEC};
	int fd = udp(&a);
	if (connect(fd, (void *)&first.ss, first.len) || connect(fd, &none, sizeof none))
		return failed("connect");
	if (sendto(fd, v[4], strlen(v[4]), 0, (void *)&a.ss, a.len) < 0)
		return failed("sendto");
	return answer(fd);
}

/* names the source by IP_PKTINFO */
static int pktinfo(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = udp(&a);
	struct iovec io = {v[2], strlen(v[2])};
	union { char b[CMSG_SPACE(sizeof(struct in_pktinfo))]; struct cmsghdr h; } u = {0};
	struct msghdr m = {&a.ss, a.len, &io, 1, u.b, sizeof u.b};
	u.h.cmsg_level = IPPROTO_IP;
	u.h.cmsg_type = IP_PKTINFO;
	u.h.cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
	((struct in_pktinfo *)CMSG_DATA(&u.h))->ipi_spec_dst = ((struct sockaddr_in *)&a.ss)->sin_addr;
	if (sendmsg(fd, &m, 0) < 0)
		return failed("sendmsg");
	return answer(fd);
}

/* an IPv6 routing header in a control message: VIA PORT NONCE */
static int rthdr_cmsg(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = udp(&a);
	struct iovec io = {v[2], strlen(v[2])};
	union { char b[CMSG_SPACE(24)]; struct cmsghdr h; } u = {0};
	struct msghdr m = {&a.ss, a.len, &io, 1, u.b, sizeof u.b};
	char rth[24] = {0, 2, 2, 1};
	memcpy(rth + 8, &((struct sockaddr_in6 *)&a.ss)->sin6_addr, 16);
	u.h.cmsg_level = IPPROTO_IPV6;
	u.h.cmsg_type = 57;
	u.h.cmsg_len = CMSG_LEN(24);
	memcpy(CMSG_DATA(&u.h), rth, 24);
	if (sendmsg(fd, &m, 0) < 0)
		return failed("sendmsg");
	return answer(fd);
}

PROBES({"udp-sendto", by_sendto}, {"udp-connect", by_connect}, {"udp-sendmsg", by_sendmsg},
	{"udp-sendmmsg", by_sendmmsg}, {"udp-write", c_write}, {"udp-c-sendto", c_sendto}, {"udp-c-sendmsg", c_sendmsg},
	{"udp-c-sendmmsg", c_sendmmsg}, {"udp-other-peer", other_peer}, {"udp-unspec", unspec}, {"udp-from", pktinfo},
	{"udp-rthdr", rthdr_cmsg})
