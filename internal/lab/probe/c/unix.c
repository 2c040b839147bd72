/* Unix sockets. Arguments: PATH NONCE; "@name" is abstract. */
#include "probe.h"

static int stream_type(char **v, int type)
{
	struct address a = unix_address(v[0]);
	int fd = socket(AF_UNIX, type, 0);
	if (fd < 0)
		return failed("socket");
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	return send_all(fd, v[1]);
}

static int stream(int c, char **v) { return stream_type(v, SOCK_STREAM); }
static int seqpacket(int c, char **v) { return stream_type(v, SOCK_SEQPACKET); }

/* names the socket by a descriptor of it, as programs do whose path is too long */
static int by_fd(int c, char **v)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", open(v[0], O_PATH));
	char *w[] = {path, v[1]};
	return stream_type(w, SOCK_STREAM);
}

static int to(int fd, char **v)
{
	struct address a = unix_address(v[0]);
	if (fd < 0)
		return failed("socket");
	if (sendto(fd, v[1], strlen(v[1]), 0, (void *)&a.ss, a.len) < 0)
		return failed("sendto");
	return done("sent");
}

static int dgram(int c, char **v) { return to(socket(AF_UNIX, SOCK_DGRAM, 0), v); }

static int dgram_connect(int c, char **v)
{
	struct address a = unix_address(v[0]);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd < 0)
		return failed("socket");
	if (connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	if (send(fd, v[1], strlen(v[1]), 0) < 0)
		return failed("send");
	return done("sent");
}

static int dgram_message(int c, char **v, int many)
{
	struct address a = unix_address(v[0]);
	struct iovec io = {v[1], strlen(v[1])};
	struct mmsghdr m = {{&a.ss, a.len, &io, 1}};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd < 0)
		return failed("socket");
	if ((many ? sendmmsg(fd, &m, 1, 0) : sendmsg(fd, &m.msg_hdr, 0)) < 0)
		return failed("sendmsg");
	return done("sent");
}

static int dgram_sendmsg(int c, char **v) { return dgram_message(c, v, 0); }
static int dgram_sendmmsg(int c, char **v) { return dgram_message(c, v, 1); }

static int dgram_relative(int c, char **v)
{
	char *name = strrchr(v[0], '/');
	*name = 0;
	if (chdir(v[0]))
		return failed("chdir");
	v[0] = name + 1;
	return to(socket(AF_UNIX, SOCK_DGRAM, 0), v);
}

static int pair(int c, char **v)
{
	int p[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, p))
		return failed("socketpair");
	return to(p[0], v);
}

/* takes a descriptor from the server at PATH and uses it: PATH HOW ADDRESS PORT NONCE; HOW is write, connect or sendto */
static int receive(int c, char **v)
{
	struct address at = unix_address(v[0]), a = parse(v[2], v[3]);
	char b[16];
	struct iovec io = {b, sizeof b};
	union { char b[CMSG_SPACE(sizeof(int))]; struct cmsghdr h; } u = {0};
	struct msghdr m = {0, 0, &io, 1, u.b, sizeof u.b};
	int s = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	if (connect(s, (void *)&at.ss, at.len))
		return failed("connect to the server");
	if (recvmsg(s, &m, 0) < 0 || u.h.cmsg_type != SCM_RIGHTS)
		return failed("recvmsg");
	memcpy(&fd, CMSG_DATA(&u.h), sizeof fd);
	begin();
	if (!strcmp(v[1], "connect") && connect(fd, (void *)&a.ss, a.len))
		return failed("connect");
	if (!strcmp(v[1], "sendto"))
		return sendto(fd, v[4], strlen(v[4]), 0, (void *)&a.ss, a.len) < 0 ? failed("sendto") : done("sent");
	return send_all(fd, v[4]);
}

/* sends the nonce on descriptor FD */
static int inherited(int c, char **v)
{
	if (write(atoi(v[0]), v[1], strlen(v[1])) < 0)
		return failed("write");
	return done("written");
}

PROBES({"unix-stream", stream}, {"unix-seqpacket", seqpacket}, {"unix-dgram", dgram}, {"unix-dgram-connect", dgram_connect},
	{"unix-dgram-sendmsg", dgram_sendmsg}, {"unix-dgram-sendmmsg", dgram_sendmmsg}, {"unix-dgram-relative", dgram_relative},
	{"unix-pair", pair}, {"unix-by-fd", by_fd}, {"inherited", inherited}, {"receive", receive})
