/* An outer filter, as containers have one. */
#include "probe.h"
#include "filter.h"
#include <sched.h>

/* NUMBER[,NUMBER...] COMMAND...: runs the command under a filter that answers
   EPERM to these system calls */
static int outer(int c, char **v)
{
	struct sock_filter code[64] = {STATEMENT(LOAD, offsetof(struct seccomp_data, nr))};
	unsigned short n = 1;
	for (char *s = strtok(v[0], ","); s && n < 60; s = strtok(0, ",")) {
		code[n++] = BRANCH(JUMP_EQUAL, strtoul(s, 0, 0), 0, 1);
		code[n++] = STATEMENT(RETURN, REFUSE | EPERM);
	}
	code[n++] = STATEMENT(RETURN, ALLOW);
	struct sock_fprog prog = {n, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, FILTER_MODE, &prog))
		return failed("outer filter");
	execvp(v[1], v + 1);
	return failed("exec");
}

/* COMMAND...: runs the command where no user namespace can be made */
static int no_userns(int c, char **v)
{
	struct sock_filter code[] = {
		STATEMENT(LOAD, offsetof(struct seccomp_data, nr)),
		BRANCH(JUMP_EQUAL, SYS_clone, 1, 0),
		BRANCH(JUMP_EQUAL, SYS_unshare, 0, 3),
		STATEMENT(LOAD, offsetof(struct seccomp_data, args)),
		BRANCH(JUMP_ANY_BIT, CLONE_NEWUSER, 0, 1),
		STATEMENT(RETURN, REFUSE | EPERM),
		STATEMENT(RETURN, ALLOW),
	};
	struct sock_fprog prog = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, FILTER_MODE, &prog))
		return failed("filter");
	execvp(v[0], v);
	return failed("exec");
}

PROBES({"outer", outer}, {"no-userns", no_userns})
