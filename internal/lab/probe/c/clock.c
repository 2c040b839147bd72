/* What a program sees of time and of randomness. */
#include "probe.h"
#include <semaphore.h>
#include <sys/auxv.h>
#include <sys/time.h>

static double monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The wall clock and 200 ms. */
static struct timespec soon(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += 200000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

static int near(const char *what, double got, double want)
{
	if (got > want - 2 && got < want + 60)
		return 0;
	printf("fail %s is %f, not %f\n", what, got, want);
	return 1;
}

/* SECONDS: every way to ask for the wall clock tells these seconds since 1970. */
static int now(int c, char **v)
{
	double want = atof(v[0]);
	struct timespec t;
	struct timeval tv;
	time_t s = 0;
	int bad = 0;
	for (int i = 0; i < 2; i++) {
		int coarse = i ? CLOCK_REALTIME_COARSE : CLOCK_REALTIME;
		clock_gettime(coarse, &t);
		bad |= near("clock_gettime", t.tv_sec, want);
		t.tv_sec = 0;
		if (syscall(SYS_clock_gettime, coarse, &t))
			return failed("clock_gettime");
		bad |= near("clock_gettime by number", t.tv_sec, want);
	}
	clock_gettime(11, &t);
	bad |= near("CLOCK_TAI", t.tv_sec, want);
	gettimeofday(&tv, 0);
	bad |= near("gettimeofday", tv.tv_sec, want) | (tv.tv_usec < 0 || tv.tv_usec > 999999);
	bad |= near("time", time(0), want);
	bad |= near("time", time(&s), want) | near("time by pointer", s, want);
#ifdef SYS_gettimeofday
	syscall(SYS_gettimeofday, &tv, 0);
	bad |= near("gettimeofday by number", tv.tv_sec, want);
#endif
#ifdef SYS_time
	bad |= near("time by number", syscall(SYS_time, 0), want);
#endif
	if (syscall(SYS_clock_gettime, CLOCK_REALTIME, 1) == 0 || errno != EFAULT)
		return failed("bad address");
	double prev = 0;
	for (int i = 0; i < 100000; i++) {
		clock_gettime(CLOCK_REALTIME, &t);
		double x = t.tv_sec + t.tv_nsec / 1e9;
		if (x < prev || t.tv_nsec < 0 || t.tv_nsec > 999999999) {
			puts("fail the clock goes back");
			return 1;
		}
		prev = x;
	}
	return bad ? 1 : done("now");
}

static int took(const char *what, double from, int result, int want)
{
	double t = monotonic() - from;
	if (result == want && t > 0.15 && t < 10)
		return 0;
	printf("fail %s: result %d, %f s\n", what, result, t);
	return 1;
}

static void *hold(void *m)
{
	pthread_mutex_lock(m);
	return 0;
}

/* Waits for a time of the wall clock take until then. */
static int deadlines(int c, char **v)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	pthread_t thread;
	sem_t sem;
	int bad = 0;
	double from = monotonic();
	struct timespec t = soon(), same = t;
	pthread_mutex_lock(&m);
	bad |= took("pthread_cond_timedwait", from, pthread_cond_timedwait(&cond, &m, &t), ETIMEDOUT);
	usleep(50000);
	bad |= memcmp(&t, &same, sizeof t) != 0;
	if (bad)
		puts("fail the deadline is changed");
	/* The same time once more: it has passed. */
	from = monotonic();
	bad |= pthread_cond_timedwait(&cond, &m, &t) != ETIMEDOUT || monotonic() - from > 5;
	sem_init(&sem, 0, 0);
	t = soon(), from = monotonic();
	bad |= took("sem_timedwait", from, sem_timedwait(&sem, &t) ? errno : 0, ETIMEDOUT);
	pthread_create(&thread, 0, hold, &held);
	pthread_join(thread, 0);
	t = soon(), from = monotonic();
	bad |= took("pthread_mutex_timedlock", from, pthread_mutex_timedlock(&held, &t), ETIMEDOUT);
	t = soon(), from = monotonic();
	bad |= took("clock_nanosleep", from, clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0), 0);
	t = (struct timespec){0, 200000000}, from = monotonic();
	bad |= took("nanosleep", from, nanosleep(&t, 0), 0);
	from = monotonic();
	bad |= took("poll", from, poll(0, 0, 200), 0);
	/* timerfd_create, timerfd_settime, read */
	struct { struct timespec interval, value; } timer = {{0, 0}, soon()};
	long fd = syscall(SYS_timerfd_create, CLOCK_REALTIME, 0), n;
	from = monotonic();
	syscall(SYS_timerfd_settime, fd, 1, &timer, 0);
	bad |= took("timerfd", from, read(fd, &n, sizeof n), sizeof n);
	fd = syscall(SYS_timerfd_create, CLOCK_MONOTONIC, 0);
	clock_gettime(CLOCK_MONOTONIC, &timer.value);
	timer.value.tv_nsec += 200000000;
	if (timer.value.tv_nsec >= 1000000000)
		timer.value.tv_nsec -= 1000000000, timer.value.tv_sec++;
	from = monotonic();
	syscall(SYS_timerfd_settime, fd, 1, &timer, 0);
	bad |= took("monotonic timerfd", from, read(fd, &n, sizeof n), sizeof n);
	sigset_t alarm;
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, 0);
	timer_t id;
	timer_create(CLOCK_REALTIME, 0, &id);
	struct itimerspec its = {{0, 0}, soon()};
	from = monotonic();
	timer_settime(id, TIMER_ABSTIME, &its, 0);
	t = (struct timespec){10, 0};
	bad |= took("timer_settime", from, sigtimedwait(&alarm, 0, &t), SIGALRM);
	return bad ? 1 : done("deadlines");
}

/* DEVICE...: prints what comes from the kernel's randomness. */
static int randomness(int c, char **v)
{
	unsigned char b[16];
	int fd;
	syscall(SYS_getrandom, b, sizeof b, 0);
	for (int i = 0; i < 16; i++)
		printf("%02x", b[i]);
	putchar(' ');
	unsigned char *at = (void *)getauxval(AT_RANDOM);
	for (int i = 0; i < 16; i++)
		printf("%02x", at[i]);
	for (int k = 0; k < c; k++) {
		fd = open(v[k], O_RDONLY);
		if (fd < 0 || read(fd, b, sizeof b) != sizeof b)
			return failed(v[k]);
		for (int i = 0; i < 16; i++)
			printf("%02x", b[i]);
		close(fd);
	}
	putchar('\n');
	return 0;
}

PROBES({"now", now}, {"deadlines", deadlines}, {"randomness", randomness})
