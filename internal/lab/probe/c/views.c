/* What a program sees of the machine. */
#include "probe.h"
#include <ifaddrs.h>
#include <net/if.h>

/* Prints the interfaces by all that libc has for it. NAME is resolved as by a
   client that wants only the families that the machine has. */
static int interfaces(int c, char **v)
{
	struct ifaddrs *a;
	struct addrinfo hints = {0}, *r;
	char text[INET6_ADDRSTRLEN];
	if (getifaddrs(&a))
		return failed("getifaddrs");
	for (; a; a = a->ifa_next) {
		text[0] = 0;
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET)
			inet_ntop(AF_INET, &((struct sockaddr_in *)a->ifa_addr)->sin_addr, text, sizeof text);
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET6)
			inet_ntop(AF_INET6, &((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr, text, sizeof text);
		printf("%s %s\n", a->ifa_name, text);
	}
	struct if_nameindex *n = if_nameindex();
	if (!n)
		return failed("if_nameindex");
	for (; n->if_index; n++)
		printf("%u %s\n", n->if_index, n->if_name);
	hints.ai_flags = AI_ADDRCONFIG;
	hints.ai_socktype = SOCK_STREAM;
	int e = getaddrinfo(v[0], "80", &hints, &r);
	if (e) {
		printf("fail %s getaddrinfo\n", gai_strerror(e));
		return 1;
	}
	for (; r; r = r->ai_next)
		printf("family %d\n", r->ai_family);
	return 0;
}

PROBES({"interfaces", interfaces})
