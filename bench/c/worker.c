/* The worker: reads commands from its input, a line each, and answers each with
   the nanoseconds that it took, on the wall and on the processors. So one
   process, started once inside a sandbox and once outside, can be asked in turns. */
#include "worker.h"

extern char **environ;
long charged_wall;

long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static long processors(void)
{
	struct timespec t;
	struct rusage r;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	getrusage(RUSAGE_CHILDREN, &r);
	return t.tv_sec * 1000000000L + t.tv_nsec + (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000L +
		(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000L;
}

/* runs a program n times, one after the other, with its output thrown away */
static int spawn(int n, int argc, char **argv)
{
	posix_spawn_file_actions_t quiet;
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	for (int i = 0; i < n; i++) {
		pid_t pid;
		int status, e = posix_spawnp(&pid, argv[0], &quiet, 0, argv, environ);
		if (e) {
			errno = e;
			return -1;
		}
		while (waitpid(pid, &status, 0) < 0)
			if (errno != EINTR)
				return -1;
		if (status) {
			errno = ECHILD;
			return -1;
		}
	}
	posix_spawn_file_actions_destroy(&quiet);
	return 0;
}

static const struct command own_commands[] = {{"spawn", spawn}, {0}};

static const struct command *find(const char *name)
{
	const struct command *all[] = {own_commands, call_commands, net_commands};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		for (const struct command *c = all[i]; c->name; c++)
			if (!strcmp(c->name, name))
				return c;
	return 0;
}

int main(int argc, char **argv)
{
	static char line[65536];
	char *words[256];
	if (argc > 2 && !strcmp(argv[1], "minimal"))
		return minimal(argv + 2);
	setvbuf(stdout, 0, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		int n = 0;
		for (char *w = strtok(line, " \n"); w && n < 255; w = strtok(0, " \n"))
			words[n++] = w;
		words[n] = 0;
		const struct command *c = n > 1 ? find(words[0]) : 0;
		if (!c) {
			printf("error no such command\n");
			continue;
		}
		charged_wall = 0;
		long cpu = processors(), wall = now();
		if (c->run(atoi(words[1]), n - 2, words + 2)) {
			printf("error %s: %s\n", words[0], strerror(errno));
			continue;
		}
		wall = now() - wall;
		cpu = processors() - cpu;
		printf("%ld %ld\n", charged_wall ? charged_wall : wall, cpu);
	}
	return 0;
}
