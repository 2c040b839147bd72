/* Socket filters for system calls, as in linux/filter.h and linux/seccomp.h,
   which the headers of musl do not bring. */
#include <stdint.h>
#include <sys/prctl.h>

struct sock_filter { uint16_t code; uint8_t jt, jf; uint32_t k; };
struct sock_fprog { unsigned short len; struct sock_filter *filter; };
struct seccomp_data { int nr; uint32_t arch; uint64_t instruction_pointer, args[6]; };

enum { LOAD = 0x20, JUMP_EQUAL = 0x15, JUMP_ANY_BIT = 0x45, RETURN = 0x06 }; /* BPF_LD|BPF_W|BPF_ABS and so on */
enum { ALLOW = 0x7fff0000, REFUSE = 0x00050000 }; /* SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO */
#define STATEMENT(code, k) ((struct sock_filter){code, 0, 0, k})
#define BRANCH(code, k, yes, no) ((struct sock_filter){code, yes, no, k})
#define FILTER_MODE 2 /* SECCOMP_MODE_FILTER */
