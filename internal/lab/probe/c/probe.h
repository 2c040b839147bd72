/* What the probes share. A probe prints "ok TEXT", or "fail ERRNO STEP" and "us N": the microseconds between the last begin,
   which main calls first, and the last lap, which failed calls where the probe did not. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct address { struct sockaddr_storage ss; socklen_t len; };
struct address parse(const char *ip, const char *port);
struct address unix_address(const char *path);
void begin(void);
void lap(void);
long micros(void);
int failed(const char *step);
int done(const char *text);
int send_all(int fd, const char *text);

int fill(struct address *a, int n);

struct probe { const char *name; int (*run)(int argc, char **argv); };
void register_probes(const struct probe *group);

/* PROBES makes a file's probes known to main. */
#define PROBES(...) \
	static const struct probe probes[] = {__VA_ARGS__, {0}}; \
	__attribute__((constructor)) static void register_file(void) { register_probes(probes); }
