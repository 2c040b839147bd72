/* What the probes share. A probe prints "ok TEXT" or "fail ERRNO STEP". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
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
int failed(const char *step);
int done(const char *text);
int send_all(int fd, const char *text);

struct probe { const char *name; int (*run)(int argc, char **argv); };
extern const struct probe tcp_probes[], udp_probes[], kernel_probes[], unix_probes[], race_probes[], load_probes[], outer_probes[], views_probes[], datagram_probes[];
