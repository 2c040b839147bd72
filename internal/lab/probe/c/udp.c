/* The four ways to send a datagram. Arguments: ADDRESS PORT NONCE. */
#include "probe.h"

static int answer(int fd)
{
	char b[256];
	struct pollfd p = {fd, POLLIN};
	if (poll(&p, 1, 300) == 1 && recv(fd, b, sizeof b, 0) < 0)
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

const struct probe udp_probes[] = {{"udp-sendto", by_sendto}, {"udp-connect", by_connect}, {"udp-sendmsg", by_sendmsg},
	{"udp-sendmmsg", by_sendmmsg}, {"udp-rthdr", rthdr_cmsg}, {0}};
