/* An outer filter, as containers have one. */
#include "probe.h"
#ifdef __GLIBC__ /* musl's compiler sees no kernel headers */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

/* NUMBER[,NUMBER...] COMMAND...: runs the command under a filter that answers
   EPERM to these system calls */
static int outer(int c, char **v)
{
	struct sock_filter code[64] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	unsigned short n = 1;
	for (char *s = strtok(v[0], ","); s && n < 60; s = strtok(0, ",")) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, strtoul(s, 0, 0), 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = {n, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		return failed("outer filter");
	execvp(v[1], v + 1);
	return failed("exec");
}

const struct probe outer_probes[] = {{"outer", outer}, {0}};
#else
const struct probe outer_probes[] = {{0}};
#endif
