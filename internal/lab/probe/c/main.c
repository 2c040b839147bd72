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
	NAME(ENOTCONN), NAME(EISCONN), NAME(EALREADY), NAME(ENODEV), NAME(ECHILD), NAME(EXDEV), NAME(ENAMETOOLONG), NAME(EDESTADDRREQ), NAME(ETIMEDOUT), NAME(ECONNREFUSED), NAME(EHOSTUNREACH), NAME(EINPROGRESS), NAME(EOPNOTSUPP), NAME(EPROTOTYPE), NAME(ECONNABORTED), NAME(EMSGSIZE)};

static struct timespec begun;
static long lapped = -1;

void begin(void)
{
	clock_gettime(CLOCK_MONOTONIC, &begun);
	lapped = -1;
}

long micros(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - begun.tv_sec) * 1000000 + (now.tv_nsec - begun.tv_nsec) / 1000;
}

void lap(void) { lapped = micros(); }

static int say(const char *error, const char *step)
{
	printf("fail %s %s\nus %ld\n", error, step, lapped);
	return 1;
}

int failed(const char *step)
{
	char number[16];
	if (lapped < 0)
		lap();
	for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].number == errno)
			return say(errors[i].name, step);
	snprintf(number, sizeof number, "%d", errno);
	return say(number, step);
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

enum { max_groups = 64 };
static const struct probe *groups[max_groups];
static int n_groups;

static const struct probe *find(const char *name)
{
	for (int i = 0; i < n_groups; i++)
		for (const struct probe *p = groups[i]; p->name; p++)
			if (!strcmp(p->name, name))
				return p;
	return 0;
}

void register_probes(const struct probe *group)
{
	for (const struct probe *p = group; p->name; p++)
		if (find(p->name))
			abort(); /* two probes have this name */
	if (n_groups == max_groups)
		abort();
	groups[n_groups++] = group;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IONBF, 0);
	begin();
	const struct probe *p = argc > 1 ? find(argv[1]) : 0;
	if (p)
		return p->run(argc - 2, argv + 2);
	fprintf(stderr, "no such probe\n");
	return 99;
}
