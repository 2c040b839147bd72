/* Datagrams beyond the plain send: control messages, batches, other forms of
   address. Arguments: ADDRESS PORT NONCE unless said otherwise. */
#include "probe.h"
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

static int answered(int fd)
{
	char b[256];
	struct pollfd p = {fd, POLLIN};
	if (poll(&p, 1, 3000) != 1)
		return errno = ETIMEDOUT, failed("poll");
	if (recv(fd, b, sizeof b, 0) < 0)
		return failed("recv");
	return done("answered");
}

/* the connected forms: HOW is send, sendto, write, sendmsg or sendmmsg */
static int connected(int c, char **v)
{
	struct address a = parse(v[1], v[2]);
	int fd = socket(a.ss.ss_family, SOCK_DGRAM, 0), n = strlen(v[3]);
	struct iovec io[2] = {{v[3], 3}, {v[3] + 3, n - 3}};
	struct msghdr m = {0, 0, io, 2};
	struct mmsghdr mm = {m};
	long r = -1;
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	if (!strcmp(v[0], "send"))
		r = send(fd, v[3], n, 0);
	else if (!strcmp(v[0], "sendto"))
		r = sendto(fd, v[3], n, 0, (void *)&a.ss, a.len);
	else if (!strcmp(v[0], "write"))
		r = write(fd, v[3], n);
	else if (!strcmp(v[0], "sendmsg"))
		r = sendmsg(fd, &m, 0);
	else if ((r = sendmmsg(fd, &mm, 1, 0)) == 1)
		r = mm.msg_len;
	if (r < 0)
		return failed(v[0]);
	if (r != n)
		return printf("fail: %ld of %d bytes\n", r, n), 1;
	return answered(fd);
}

/* leaves an allowed peer for another: HOW GOOD PORT BAD PORT NONCE */
static int leave(int c, char **v)
{
	struct address good = parse(v[1], v[2]), bad = parse(v[3], v[4]);
	struct sockaddr none = {AF_UNSPEC};
	int fd = socket(good.ss.ss_family, SOCK_DGRAM, 0);
	if (connect(fd, (void *)&good.ss, good.len))
		return failed("connect");
	if (!strcmp(v[0], "sendto")) {
		if (connect(fd, &none, sizeof none))
			return failed("unspec");
		if (sendto(fd, v[5], strlen(v[5]), 0, (void *)&bad.ss, bad.len) < 0)
			return failed("sendto");
	} else if (!strcmp(v[0], "unspec")) {
		/* IPv4 takes this family for its own */
		bad.ss.ss_family = AF_UNSPEC;
		connect(fd, &none, sizeof none);
		if (sendto(fd, v[5], strlen(v[5]), 0, (void *)&bad.ss, bad.len) < 0)
			return failed("sendto");
	} else if (!strcmp(v[0], "v6")) {
		/* an IPv4 address on an IPv6 socket */
		fd = socket(AF_INET6, SOCK_DGRAM, 0);
		if (sendto(fd, v[5], strlen(v[5]), 0, (void *)&bad.ss, bad.len) < 0)
			return failed("sendto");
	} else {
		if (connect(fd, (void *)&bad.ss, bad.len))
			return failed("connect");
		if (send(fd, v[5], strlen(v[5]), 0) < 0)
			return failed("send");
	}
	return answered(fd);
}

/* three messages, to GOOD, BAD and GOOD: GOOD PORT BAD PORT NONCE */
static int partial(int c, char **v)
{
	struct address good = parse(v[0], v[1]), bad = parse(v[2], v[3]);
	int fd = socket(good.ss.ss_family, SOCK_DGRAM, 0);
	struct iovec io = {v[4], strlen(v[4])};
	struct mmsghdr m[3] = {{{&good.ss, good.len, &io, 1}}, {{&bad.ss, bad.len, &io, 1}}, {{&good.ss, good.len, &io, 1}}};
	int r = sendmmsg(fd, m, 3, 0);
	printf("ok %d lengths %u %u %u\n", r, m[0].msg_len, m[1].msg_len, m[2].msg_len);
	r = sendmmsg(fd, m + 1, 1, 0);
	if (r < 0)
		return failed("sendmmsg");
	return done("all");
}

/* lengths of the address that the kernel refuses */
static int lengths(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = socket(a.ss.ss_family, SOCK_DGRAM, 0);
	long sizes[] = {0, 1, 2, 7, 129, 4096, 0x7fffffff, 0xffffffffL};
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
		if (syscall(SYS_sendto, fd, v[2], strlen(v[2]), 0, &a.ss, sizes[i]) >= 0 || errno != EINVAL)
			return printf("fail: length %ld: errno %d\n", sizes[i], errno), 1;
	return done("EINVAL");
}

static int with_control(struct address *a, int family, int level, int type, const void *data, int n, char *text)
{
	int fd = socket(family, SOCK_DGRAM, 0);
	struct iovec io = {text, strlen(text)};
	union { char b[CMSG_SPACE(64)]; struct cmsghdr h; } u = {0};
	struct msghdr m = {&a->ss, a->len, &io, 1, u.b, CMSG_SPACE(n)};
	u.h.cmsg_level = level;
	u.h.cmsg_type = type;
	u.h.cmsg_len = CMSG_LEN(n);
	memcpy(CMSG_DATA(&u.h), data, n);
	if (sendmsg(fd, &m, 0) < 0)
		return failed("sendmsg");
	return answered(fd);
}

/* LEVEL TYPE BYTES VALUE ADDRESS PORT NONCE */
static int control(int c, char **v)
{
	struct address a = parse(v[4], v[5]);
	char data[64] = {0};
	int n = atoi(v[2]), value = atoi(v[3]);
	memcpy(data, &value, n < 4 ? n : 4);
	return with_control(&a, a.ss.ss_family, atoi(v[0]), atoi(v[1]), data, n, v[6]);
}

/* sends from an address: SOURCE INTERFACE ADDRESS PORT NONCE */
static int pktinfo(int c, char **v)
{
	struct address s = parse(v[0], "0"), a = parse(v[2], v[3]);
	if (s.ss.ss_family == AF_INET) {
		struct in_pktinfo i = {atoi(v[1]), ((struct sockaddr_in *)&s.ss)->sin_addr};
		return with_control(&a, AF_INET, IPPROTO_IP, IP_PKTINFO, &i, sizeof i, v[4]);
	}
	struct in6_pktinfo i = {((struct sockaddr_in6 *)&s.ss)->sin6_addr, atoi(v[1])};
	return with_control(&a, AF_INET6, IPPROTO_IPV6, IPV6_PKTINFO, &i, sizeof i, v[4]);
}

/* an echo request from a ping socket: ADDRESS NONCE [CONNECT] */
static int echo(int c, char **v)
{
	struct address a = parse(v[0], "0");
	int v6 = a.ss.ss_family == AF_INET6;
	int fd = socket(a.ss.ss_family, SOCK_DGRAM, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	char b[128] = {v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO};
	int n = 8 + snprintf(b + 8, sizeof b - 8, "%s", v[1]);
	if (fd < 0)
		return failed("socket");
	if (c > 2) {
		if (connect(fd, (void *)&a.ss, a.len))
			return failed("connect");
		if (send(fd, b, n, 0) < 0)
			return failed("send");
	} else if (sendto(fd, b, n, 0, (void *)&a.ss, a.len) < 0)
		return failed("sendto");
	return answered(fd);
}

/* a refused flag */
static int zerocopy(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = socket(a.ss.ss_family, SOCK_DGRAM, 0);
	struct iovec io = {v[2], strlen(v[2])};
	struct msghdr m = {&a.ss, a.len, &io, 1};
	if (sendto(fd, v[2], strlen(v[2]), 0x4000000, (void *)&a.ss, a.len) >= 0)
		return done("sendto");
	if (sendmsg(fd, &m, 0x4000000) >= 0)
		return done("sendmsg");
	return failed("zerocopy");
}

/* binds ADDRESS PORT and prints what comes until the nonce does */
static int receiver(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	struct timeval t = {10};
	int fd = socket(a.ss.ss_family, SOCK_DGRAM, 0), n;
	char b[2048];
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	if (bind(fd, (void *)&a.ss, a.len))
		return failed("bind");
	printf("ready\n");
	while ((n = recvfrom(fd, b, sizeof b - 1, 0, (void *)&a.ss, &a.len)) >= 0) {
		b[n] = 0;
		printf("got %s\n", b);
		if (sendto(fd, b, n, 0, (void *)&a.ss, a.len) < 0)
			return failed("sendto");
		if (strstr(b, v[2]))
			return done("received");
	}
	return failed("recvfrom");
}

/* connects to learn the own address and sends nothing */
static int own_address(int c, char **v)
{
	struct address a = parse(v[0], v[1]);
	int fd = socket(a.ss.ss_family, SOCK_DGRAM, 0);
	char text[64];
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	a.len = sizeof a.ss;
	getsockname(fd, (void *)&a.ss, &a.len);
	if (a.ss.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&a.ss)->sin_addr, text, sizeof text);
	else
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a.ss)->sin6_addr, text, sizeof text);
	printf("own %s\n", text);
	a.len = sizeof a.ss;
	getpeername(fd, (void *)&a.ss, &a.len);
	printf("peer port %d\n", ntohs(((struct sockaddr_in *)&a.ss)->sin_port));
	return done("connected");
}

PROBES({"udp-connected", connected}, {"udp-leave", leave}, {"udp-partial", partial}, {"udp-lengths", lengths},
	{"udp-control", control}, {"udp-pktinfo", pktinfo}, {"udp-zerocopy", zerocopy}, {"udp-receiver", receiver}, {"udp-own", own_address},
	{"echo", echo})
