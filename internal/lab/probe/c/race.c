/* A second thread rewrites the address while the call is under way.
   Arguments: SECONDS ALLOWED PORT EVIL PORT NONCE. */
#include "probe.h"

static struct address shared, good, bad;
static volatile int stop;

static void *flip(void *p)
{
	while (!stop) {
		memcpy(&shared.ss, &bad.ss, bad.len);
		memcpy(&shared.ss, &good.ss, good.len);
	}
	return 0;
}

static int run(char **v, int type, int (*call)(int fd, char *text))
{
	struct timespec now, start;
	pthread_t t;
	long calls = 0, passed = 0;
	good = shared = parse(v[1], v[2]);
	bad = parse(v[3], v[4]);
	pthread_create(&t, 0, flip, 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		int fd = socket(good.ss.ss_family, type, 0);
		if (fd < 0)
			return failed("socket");
		calls++;
		passed += call(fd, v[5]) >= 0;
		close(fd);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < atoi(v[0]));
	stop = 1;
	pthread_join(t, 0);
	printf("ok %ld calls %ld passed\n", calls, passed);
	return 0;
}

static int c_connect(int fd, char *text)
{
	struct linger l = {1, 0};
	if (connect(fd, (void *)&shared.ss, good.len))
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	return send(fd, text, strlen(text), MSG_NOSIGNAL);
}
static int c_sendto(int fd, char *text) { return sendto(fd, text, strlen(text), 0, (void *)&shared.ss, good.len); }
static int c_sendmsg(int fd, char *text)
{
	struct iovec io = {text, strlen(text)};
	struct msghdr m = {&shared.ss, good.len, &io, 1};
	return sendmsg(fd, &m, 0);
}
static int c_sendmmsg(int fd, char *text)
{
	struct iovec io = {text, strlen(text)};
	struct mmsghdr m = {{&shared.ss, good.len, &io, 1}};
	return sendmmsg(fd, &m, 1, 0);
}

/* connected UDP: what counts is where the datagram goes */
static int c_udp(int fd, char *text)
{
	if (connect(fd, (void *)&shared.ss, good.len))
		return -1;
	return send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* the header and the vector are rewritten instead of the address */
static volatile struct msghdr header;
static volatile struct iovec vector;
static size_t length;
static void *flip_header(void *p)
{
	while (!stop) {
		header.msg_name = &bad.ss;
		vector.iov_len = 1 << 30;
		header.msg_name = &good.ss;
		header.msg_iovlen = 1 << 20;
		vector.iov_len = length;
		header.msg_iovlen = 1;
	}
	return 0;
}
static int c_header(int fd, char *text)
{
	static pthread_t t;
	if (!t) {
		header.msg_name = &good.ss;
		header.msg_namelen = good.len;
		header.msg_iov = (void *)&vector;
		header.msg_iovlen = 1;
		vector.iov_base = text;
		vector.iov_len = length = strlen(text);
		pthread_create(&t, 0, flip_header, 0);
	}
	return sendmsg(fd, (void *)&header, 0);
}

/* another thread exchanges the socket: one to which an address means nothing, and
   one that takes it */
static int stream_end, swapped;
static void *flip_socket(void *p)
{
	int udp = socket(bad.ss.ss_family, SOCK_DGRAM, 0);
	while (!stop) {
		dup2(udp, swapped);
		dup2(stream_end, swapped);
	}
	return 0;
}
static int c_swap(int fd, char *text)
{
	static pthread_t t;
	struct iovec io = {text, strlen(text)};
	struct msghdr m = {&bad.ss, bad.len, &io, 1};
	if (!t) {
		int p[2];
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, p);
		stream_end = p[0];
		swapped = 200;
		dup2(stream_end, swapped);
		pthread_create(&t, 0, flip_socket, 0);
	}
	return sendmsg(swapped, &m, 0);
}

static int r_connect(int c, char **v) { return run(v, SOCK_STREAM, c_connect); }
static int r_udp(int c, char **v) { return run(v, SOCK_DGRAM, c_udp); }
static int r_header(int c, char **v) { return run(v, SOCK_DGRAM, c_header); }
static int r_swap(int c, char **v) { return run(v, SOCK_DGRAM, c_swap); }
static int r_sendto(int c, char **v) { return run(v, SOCK_DGRAM, c_sendto); }
static int r_sendmsg(int c, char **v) { return run(v, SOCK_DGRAM, c_sendmsg); }
static int r_sendmmsg(int c, char **v) { return run(v, SOCK_DGRAM, c_sendmmsg); }

/* SECONDS ALLOWED EVIL NONCE, paths of unix datagram sockets */
static int unix_race(int c, char **v)
{
	struct timespec now, start;
	pthread_t t;
	long calls = 0;
	good = shared = unix_address(v[1]);
	bad = unix_address(v[2]);
	pthread_create(&t, 0, flip, 0);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failed("socket");
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		calls++;
		if (calls % 2)
			c_sendto(fd, v[3]);
		else
			c_sendmsg(fd, v[3]);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < atoi(v[0]));
	stop = 1;
	pthread_join(t, 0);
	printf("ok %ld calls\n", calls);
	return 0;
}

/* another thread puts a second socket on the descriptor's number */
static int numbers[2];
static void *swap(void *p)
{
	while (!stop)
		dup2(numbers[1], numbers[0]);
	return 0;
}
static int dup_race(int c, char **v)
{
	struct timespec now, start;
	pthread_t t;
	good = parse(v[1], v[2]);
	numbers[0] = 100;
	numbers[1] = socket(good.ss.ss_family, SOCK_STREAM, 0);
	dup2(numbers[1], numbers[0]);
	pthread_create(&t, 0, swap, 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	long calls = 0;
	do {
		int fd = socket(good.ss.ss_family, SOCK_STREAM, 0);
		dup2(fd, numbers[0]);
		close(fd);
		connect(numbers[0], (void *)&good.ss, good.len);
		calls++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < atoi(v[0]));
	stop = 1;
	pthread_join(t, 0);
	printf("ok %ld calls\n", calls);
	return 0;
}

/* another thread exchanges a socket of our own and a link to PATH: SECONDS PATH NONCE */
static char place[256], spare[264], outside[256];
static void *exchange(void *p)
{
	char tmp[272];
	snprintf(tmp, sizeof tmp, "%s.t", place);
	while (!stop) {
		symlink(outside, tmp);
		rename(tmp, place);
		symlink(spare, tmp);
		rename(tmp, place);
	}
	return 0;
}
static void *answering(void *p)
{
	char b[256];
	for (;;) {
		int s = accept((long)p, 0, 0);
		read(s, b, sizeof b);
		close(s);
	}
}
static int unix_swap(int c, char **v)
{
	pthread_t t, u;
	long calls = 0, passed = 0;
	snprintf(place, sizeof place, "%s/place", getenv("TMPDIR"));
	snprintf(spare, sizeof spare, "%s.own", place);
	snprintf(outside, sizeof outside, "%s", v[1]);
	struct address own = unix_address(spare), a = unix_address(place);
	long l = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(l, (void *)&own.ss, own.len) || listen(l, 64))
		return failed("listen");
	pthread_create(&u, 0, answering, (void *)l);
	pthread_create(&t, 0, exchange, 0);
	do {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		calls++;
		if (!connect(fd, (void *)&a.ss, a.len)) {
			passed++;
			send(fd, v[2], strlen(v[2]), MSG_NOSIGNAL);
		}
		close(fd);
	} while (micros() < atoi(v[0]) * 1000000L);
	stop = 1;
	pthread_join(t, 0);
	printf("ok %ld calls %ld passed\n", calls, passed);
	return 0;
}

PROBES({"race-connect", r_connect}, {"race-sendto", r_sendto}, {"race-sendmsg", r_sendmsg},
	{"race-sendmmsg", r_sendmmsg}, {"race-dup", dup_race}, {"unix-swap", unix_swap},
	{"race-udp", r_udp}, {"race-header", r_header}, {"race-socket", r_swap}, {"race-unix", unix_race})
