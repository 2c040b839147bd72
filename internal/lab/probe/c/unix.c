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

static int pair(int c, char **v)
{
	int p[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, p))
		return failed("socketpair");
	return to(p[0], v);
}

/* sends the nonce on descriptor FD */
static int inherited(int c, char **v)
{
	if (write(atoi(v[0]), v[1], strlen(v[1])) < 0)
		return failed("write");
	return done("written");
}

const struct probe unix_probes[] = {{"unix-stream", stream}, {"unix-seqpacket", seqpacket}, {"unix-dgram", dgram},
	{"unix-pair", pair}, {"inherited", inherited}, {0}};
