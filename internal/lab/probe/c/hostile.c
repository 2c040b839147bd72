/* A process that tries to hold up the supervisor, and one that measures whether it does: HOW SECONDS ADDRESS PORT SLOW PORT. ADDRESS
   answers, a connect to SLOW waits. */
#include "probe.h"

static struct address good, slow;
static int shared;

static void *toggle(void *p)
{
	for (;;) {
		fcntl(shared, F_SETFL, O_NONBLOCK);
		fcntl(shared, F_SETFL, 0);
	}
}

/* O_NONBLOCK is taken away while the connect is decided */
static void setfl(void)
{
	pthread_t t;
	shared = dup(0);
	pthread_create(&t, 0, toggle, 0);
	for (;;) {
		int fd = socket(slow.ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
		dup2(fd, shared);
		close(fd);
		alarm(1); /* a blocked call ends with it */
		connect(shared, (void *)&slow.ss, slow.len);
	}
}

/* calls about a socket until the process ends under them */
static void *peek(void *p)
{
	struct sockaddr_in a = {AF_INET};
	for (;;)
		bind(shared, (void *)&a, sizeof a);
}

/* processes end while the supervisor holds the last descriptor of a socket that lingers on unsent data */
static void linger(void)
{
	static char data[1 << 20];
	struct linger on = {1, 30};
	struct sockaddr_in a = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
	socklen_t l = sizeof a;
	pthread_t t;
	int server = socket(AF_INET, SOCK_STREAM, 0);
	bind(server, (void *)&a, l);
	listen(server, 4096);
	getsockname(server, (void *)&a, &l);
	for (long i = 0;; i++) {
		pid_t pid = fork();
		if (!pid) {
			shared = socket(AF_INET, SOCK_STREAM, 0);
			connect(shared, (void *)&a, l);
			setsockopt(shared, SOL_SOCKET, SO_LINGER, &on, sizeof on);
			while (send(shared, data, sizeof data, MSG_DONTWAIT) > 0)
				;
			pthread_create(&t, 0, peek, 0);
			usleep(200 + i % 10 * 50);
			_exit(0);
		}
		waitpid(pid, 0, 0);
	}
}

/* address space that is split into many pieces, forked and unmapped while addresses are read from it */
static char *volatile place;
static void *forker(void *p)
{
	for (;;) {
		pid_t pid = fork();
		if (!pid)
			_exit(0);
		waitpid(pid, 0, 0);
	}
}
static void *mapper(void *p)
{
	for (;;) {
		char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memcpy(m, &good.ss, good.len);
		place = m;
		sched_yield();
		munmap(m, 4096);
	}
}
static void memory(void)
{
	enum { pieces = 30000 };
	pthread_t t;
	char *all = mmap(0, pieces * 8192UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (long i = 0; i < pieces; i++) {
		all[i * 8192] = 1;
		mprotect(all + i * 8192, 4096, PROT_READ);
	}
	pthread_create(&t, 0, forker, 0);
	pthread_create(&t, 0, mapper, 0);
	for (;;) {
		int fd = socket(good.ss.ss_family, SOCK_STREAM, 0);
		connect(fd, (void *)place, good.len);
		close(fd);
	}
}

/* many calls that wait */
static void *wait_one(void *p)
{
	for (;;) {
		int fd = socket(slow.ss.ss_family, SOCK_STREAM, 0);
		connect(fd, (void *)&slow.ss, slow.len);
		close(fd);
	}
}
static void crowd(void)
{
	pthread_t t;
	for (int i = 0; i < 200; i++)
		pthread_create(&t, 0, wait_one, 0);
	pause();
}

static const struct { const char *name; void (*play)(void); } plays[] = {{"setfl", setfl}, {"linger", linger}, {"memory", memory}, {"crowd", crowd}};

static void nothing(int s) {}

static int hostile(int c, char **v)
{
	struct sigaction s = {.sa_handler = nothing};
	void (*play)(void) = 0;
	long worst = 0, calls = 0;
	good = parse(v[2], v[3]);
	slow = parse(v[4], v[5]);
	for (unsigned i = 0; i < sizeof plays / sizeof *plays; i++)
		if (!strcmp(plays[i].name, v[0]))
			play = plays[i].play;
	fill(&slow, 4);
	sigaction(SIGALRM, &s, 0);
	pid_t pid = fork();
	if (pid < 0)
		return failed("fork"); /* kill(-1) reaches everybody */
	if (!pid) {
		setpgid(0, 0);
		play();
	}
	struct timespec start;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		int fd = socket(good.ss.ss_family, SOCK_STREAM, 0);
		begin();
		if (connect(fd, (void *)&good.ss, good.len))
			return failed("connect");
		long us = micros();
		worst = us > worst ? us : worst;
		calls++;
		close(fd);
		usleep(2000);
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 > atoi(v[1]) * 1000)
			break;
	}
	int playing = waitpid(pid, 0, WNOHANG) == 0;
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	printf("ok playing=%d calls=%ld worst=%ld\n", playing, calls, worst);
	return 0;
}

PROBES({"hostile", hostile})
