/* Commands that name or reach an address. */
#include "worker.h"

/* asks a socket for its peer: a call that a supervisor traps and lets run on */
static int peername(int n, int argc, char **argv)
{
	static int fd = -1;
	struct sockaddr_storage a;
	if (fd < 0 && (fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
		return -1;
	for (int i = 0; i < n; i++) {
		socklen_t len = sizeof a;
		if (getpeername(fd, (void *)&a, &len) == 0 || errno != ENOTCONN)
			return -1;
	}
	return 0;
}

/* ADDRESS PORT ok|refused: connects n times; only connect itself is charged */
static int connects(int n, int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct linger reset = {1, 0};
	int refused = !strcmp(argv[2], "refused");
	if (inet_pton(AF_INET, argv[0], &a.sin_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	a.sin_port = htons(atoi(argv[1]));
	for (int i = 0; i < n; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		long start = now();
		int r = connect(fd, (void *)&a, sizeof a);
		charged_wall += now() - start;
		if (refused ? !(r < 0 && errno == ECONNREFUSED) : r)
			return -1;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		close(fd);
	}
	return 0;
}

/* FAMILY TYPE: makes and closes a socket */
static int sockets(int n, int argc, char **argv)
{
	int family = atoi(argv[0]), type = atoi(argv[1]);
	for (int i = 0; i < n; i++) {
		int fd = socket(family, type | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		close(fd);
	}
	return 0;
}

/* NAME: resolves it with the C library */
static int lookup(int n, int argc, char **argv)
{
	for (int i = 0; i < n; i++) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
		if (getaddrinfo(argv[0], "443", &hints, &found)) {
			errno = ENOENT;
			return -1;
		}
		freeaddrinfo(found);
	}
	return 0;
}

const struct command net_commands[] = {{"peername", peername}, {"connect", connects}, {"socket", sockets}, {"lookup", lookup}, {0}};
