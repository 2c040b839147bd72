#include "probe.h"

struct address parse(const char *ip, const char *port)
{
	struct address a;
	struct sockaddr_in *v4 = (void *)&a.ss;
	struct sockaddr_in6 *v6 = (void *)&a.ss;
	memset(&a, 0, sizeof a);
	if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(atoi(port));
		a.len = sizeof *v4;
		return a;
	}
	if (inet_pton(AF_INET6, ip, &v6->sin6_addr) != 1) {
		fprintf(stderr, "bad address %s\n", ip);
		exit(99);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(atoi(port));
	a.len = sizeof *v6;
	return a;
}

struct address unix_address(const char *path)
{
	struct address a;
	struct sockaddr_un *un = (void *)&a.ss;
	memset(&a, 0, sizeof a);
	un->sun_family = AF_UNIX;
	strncpy(un->sun_path, path, sizeof un->sun_path - 1);
	a.len = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
	if (path[0] == '@') {
		un->sun_path[0] = 0;
		a.len--;
	}
	return a;
}

#define NAME(e) {e, #e}
static const struct { int number; const char *name; } errors[] = {NAME(EPERM), NAME(ENOENT), NAME(EINTR), NAME(EBADF), NAME(EAGAIN), NAME(EACCES),
	NAME(EINVAL), NAME(EFAULT), NAME(ENOTTY), NAME(EPIPE), NAME(ENOSYS), NAME(ESRCH), NAME(ENOTSOCK), NAME(EMFILE), NAME(EPROTONOSUPPORT),
	NAME(ESOCKTNOSUPPORT), NAME(EAFNOSUPPORT), NAME(EADDRINUSE), NAME(EADDRNOTAVAIL), NAME(ENETUNREACH), NAME(ECONNRESET), NAME(ENOPROTOOPT),
	NAME(ENOTCONN), NAME(ETIMEDOUT), NAME(ECONNREFUSED), NAME(EHOSTUNREACH), NAME(EINPROGRESS), NAME(EOPNOTSUPP), NAME(EPROTOTYPE), NAME(ECONNABORTED), NAME(EMSGSIZE), NAME(EDESTADDRREQ), NAME(EISCONN)};

int failed(const char *step)
{
	for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].number == errno) {
			printf("fail %s %s\n", errors[i].name, step);
			return 1;
		}
	printf("fail %d %s\n", errno, step);
	return 1;
}

int done(const char *text)
{
	printf("ok %s\n", text);
	return 0;
}

int send_all(int fd, const char *text)
{
	char back[4096];
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		return failed("send");
	if (recv(fd, back, sizeof back, 0) < 0)
		return failed("recv");
	return done("sent");
}

int main(int argc, char **argv)
{
	const struct probe *all[] = {tcp_probes, udp_probes, kernel_probes, unix_probes, race_probes, load_probes, outer_probes, views_probes, datagram_probes};
	setvbuf(stdout, 0, _IONBF, 0);
	for (unsigned i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
		for (const struct probe *p = all[i]; p->name; p++)
			if (!strcmp(p->name, argv[1]))
				return p->run(argc - 2, argv + 2);
	fprintf(stderr, "no such probe\n");
	return 99;
}
