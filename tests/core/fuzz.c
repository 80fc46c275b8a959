/*
 * System calls and ioctls by chance, by several threads at once: numbers that are nearly right, and
 * structures that get past the first check. What a thread does follows from a seed.
 *
 * Left out is what would only end the program or make it idle: exit, SIGKILL and SIGSTOP, to be a
 * real-time thread, libc's own memory, FS.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/core/hostile.h"

#define WORKERS	   3
#define TICK_NS	   2000000
#define BUFFERS	   64
#define FD_FIRST   4
#define FD_RANGE   48
#define PLAYGROUND UINT64_C(0x600000000000)
#define PLAY_BYTES (UINT64_C(4) << 20)
#define KEPT	   4

struct worker {
	pthread_t thread;
	struct random random;
	_Atomic pid_t tid;
	_Atomic uint64_t steps;
	_Atomic bool done;
	uint64_t seen; /* the watchdog's */
	uint64_t limit;
	uint8_t *ioctl_buffer; /* keeps what a GET left for a SET */
};

static struct worker workers[WORKERS];
static uint8_t *buffers; /* BUFFERS pages, each followed by one that is not there */
static uint8_t *read_only;
static struct fuzz_count *count;

/* Of all threads; it does not matter whose value stays. */
static _Atomic int kept_vm[KEPT], kept_vcpu[KEPT], kvm_fd;
static uint8_t *_Atomic kept_run[KEPT];

static const char *const paths[] = {
	"/tmp/a",
	"/tmp/b",
	"/tmp/d",
	"/tmp/d/x",
	"/tmp/d/y",
	"/tmp/../tmp/a",
	"/dev/null",
	"/dev/urandom",
	"/dev/kvm",
	"/dev/zero",
	"/proc/self/status",
	"/proc/self/maps",
	"/proc/vmstat",
	"/proc/self/fd/5",
	"/proc/self/fd",
	"/proc/self/task",
	"/proc",
	"/",
	"/dev",
	"/tmp",
	"",
	"/nowhere",
	"a",
	"../b",
	"/sys/devices/system/cpu/online",
	"/tmp/s",
	"/run/x",
};

/* ---- arguments ---- */

static uint8_t *any_buffer(struct random *r)
{
	return buffers + random_below(r, BUFFERS) * 2 * PAGE;
}

static uint64_t bad_address(struct random *r)
{
	static const uint64_t known[] = {
		0,
		1,
		8,
		0xfff,
		0x7ffffffff000,
		0x7fffffffeff8,
		0x7fffffffffff,
		0x800000000000,
		0x8000000000000000,
		0xffff800000000000,
		0xffffffff80200000,
		0xfffffffffffff000,
		0xfffffffffffffff8,
		0xffffffffffffffff,
		0xffff7fffffffffff,
		0xfee00000,
	};

	return known[random_below(r, sizeof(known) / sizeof(known[0]))];
}

static void fill(struct random *r, uint8_t *at, size_t words)
{
	uint64_t *w = (uint64_t *)at;

	for (size_t i = 0; i < words; i++) {
		switch (random_below(r, 6)) {
		case 0:
			w[i] = random_word(r);
			break;
		case 1:
			w[i] = (uintptr_t)any_buffer(r) + random_below(r, 256);
			break;
		case 2:
			w[i] = random_below(r, 64) | (uint64_t)random_below(r, 64) << 32;
			break;
		case 3:
			w[i] = FD_FIRST + random_below(r, FD_RANGE);
			break;
		case 4:
			w[i] = random_below(r, 4096);
			break;
		default:
			w[i] = 0;
		}
	}
}

static uint64_t any_pointer(struct random *r)
{
	uint8_t *page = any_buffer(r);

	switch (random_below(r, 16)) {
	case 0:
		return bad_address(r);
	case 1: /* ends at a page that is not there */
		return (uintptr_t)page + PAGE - random_below(r, 64);
	case 2:
		return (uintptr_t)read_only + random_below(r, 64);
	case 3:
		return PLAYGROUND + random_below(r, (uint32_t)PLAY_BYTES);
	case 4:
		return (uintptr_t)page + random_below(r, 64);
	case 5:
		return (uintptr_t)page; /* as it was left */
	default:
		fill(r, page, 32);
		return (uintptr_t)page;
	}
}

static uint64_t any_path(struct random *r)
{
	char *page = (char *)any_buffer(r);

	switch (random_below(r, 12)) {
	case 0:
		return any_pointer(r);
	case 1:
		memset(page, random_one_in(r, 2) ? '/' : 'x', PAGE); /* without an end */
		return (uintptr_t)page;
	case 2:
		memset(page, 'x', 300);
		page[0] = '/';
		page[300] = '\0';
		return (uintptr_t)page;
	default:
		strcpy(page, paths[random_below(r, sizeof(paths) / sizeof(paths[0]))]);
		return (uintptr_t)page;
	}
}

static uint64_t any_fd(struct random *r)
{
	switch (random_below(r, 24)) {
	case 0:
		return random_word(r) | 1u << 20;
	case 1:
		return (uint64_t)-100; /* AT_FDCWD */
	default:
		return FD_FIRST + random_below(r, random_one_in(r, 2) ? 12 : FD_RANGE);
	}
}

static uint64_t any_flags(struct random *r)
{
	uint64_t flags = 0;

	if (random_one_in(r, 3)) {
		return 0;
	}
	for (unsigned n = 1 + random_below(r, 3); n > 0; n--) {
		flags |= UINT64_C(1) << random_below(r, random_one_in(r, 8) ? 64 : 20);
	}
	return flags;
}

static uint64_t any_pid(struct random *r)
{
	switch (random_below(r, 6)) {
	case 0:
		return 0x7ffffff0;
	case 1:
		return (uint64_t)getpid();
	default:
		return (uint64_t)atomic_load(&workers[random_below(r, WORKERS)].tid);
	}
}

/*
 * f: descriptor, d: one to be replaced, p: pointer, s: path, l: length, n: number, g: flags,
 * a: address in the playground, z: length of a mapping, i: thread, t: signal, h: signal with no
 * handler of ours, k: small number, o: policy, c: flags of clone(), m: resource, 0: nothing
 */
static uint64_t argument(struct random *r, char kind)
{
	switch (kind) {
	case 'f':
		return any_fd(r);
	case 'd':
		return FD_FIRST + random_below(r, FD_RANGE);
	case 'p':
		return any_pointer(r);
	case 's':
		return any_path(r);
	case 'l':
		return random_one_in(r, 8) ? random_word(r) : random_below(r, 300);
	case 'n':
		return random_word(r);
	case 'g':
		return any_flags(r);
	case 'a':
		return random_one_in(r, 10)
			       ? bad_address(r) | UINT64_C(0x800000000000)
			       : PLAYGROUND +
					 random_below(r, (uint32_t)(PLAY_BYTES / PAGE)) * PAGE +
					 (random_one_in(r, 16) ? 8 : 0);
	case 'z':
		return random_one_in(r, 16)
			       ? random_word(r) & 0xffffffffff
			       : PAGE * random_below(r, random_one_in(r, 8) ? 600 : 16);
	case 'i':
		return any_pid(r);
	case 't':
		return 10 + random_below(r, 5); /* SIGUSR1 to SIGTERM: handled */
	case 'h':
		return random_one_in(r, 4) ? random_word(r) | 64 : 34 + random_below(r, 31);
	case 'k':
		return random_below(r, 16);
	case 'o':
		return (uint64_t[]){0, 3, 5, 6, 100}[random_below(r, 5)];
	case 'c':
		switch (random_below(r, 6)) {
		case 0:
			return any_flags(r);
		case 1:
			return 0x3d0f00; /* as a thread */
		case 2:
			return 0x4111; /* as vfork() */
		default:
			return 0x100 | 17 | (random_one_in(r, 3) ? any_flags(r) : 0);
		}
	case 'm':
		return random_below(r, 7) + (random_one_in(r, 8) ? 8 : 0);
	default:
		return 0;
	}
}

static const struct call {
	uint16_t number;
	uint8_t weight;
	const char *kinds;
} calls[] = {
	{SYS_read, 4, "fpl"},
	{SYS_write, 6, "fpl"},
	{SYS_open, 6, "sgk"},
	{SYS_openat, 6, "fsgk"},
	{SYS_close, 40, "f"},
	{SYS_stat, 2, "sp"},
	{SYS_fstat, 2, "fp"},
	{SYS_lstat, 2, "sp"},
	{SYS_poll, 2, "pkk"},
	{SYS_lseek, 3, "fnk"},
	{SYS_mmap, 12, "azkgfn"},
	{SYS_mmap, 12, "azk2f0"},
	{SYS_mprotect, 6, "azk"},
	{SYS_munmap, 8, "az"},
	{SYS_brk, 1, "0"},
	{SYS_rt_sigaction, 3, "hppk"},
	{SYS_rt_sigprocmask, 1, "k0pk"},
	{SYS_ioctl, 4, "fnp"},
	{SYS_pread64, 3, "fpln"},
	{SYS_pwrite64, 3, "fplk"},
	{SYS_pwrite64, 1, "fpln"},
	{SYS_readv, 3, "fpk"},
	{SYS_writev, 3, "fpk"},
	{SYS_access, 1, "sk"},
	{SYS_pipe, 4, "p"},
	{SYS_select, 2, "kpppp"},
	{SYS_sched_yield, 1, ""},
	{SYS_mremap, 6, "azzga"},
	{SYS_msync, 1, "azk"},
	{SYS_madvise, 6, "azk"},
	{SYS_madvise, 3, "azn"},
	{SYS_dup, 4, "f"},
	{SYS_dup2, 4, "fd"},
	{SYS_nanosleep, 1, "pp"},
	{SYS_alarm, 1, "k"},
	{SYS_getpid, 1, ""},
	{SYS_sendfile, 2, "ffpl"},
	{SYS_socket, 4, "kgk"},
	{SYS_connect, 3, "fpl"},
	{SYS_accept, 2, "fpp"},
	{SYS_sendto, 3, "fplgpl"},
	{SYS_recvfrom, 3, "fplgpp"},
	{SYS_sendmsg, 6, "fpg"},
	{SYS_recvmsg, 6, "fpg"},
	{SYS_shutdown, 2, "fk"},
	{SYS_bind, 3, "fpl"},
	{SYS_listen, 2, "fk"},
	{SYS_getsockname, 1, "fpp"},
	{SYS_getpeername, 1, "fpp"},
	{SYS_socketpair, 8, "1gkp"},
	{SYS_setsockopt, 2, "f1kpl"},
	{SYS_getsockopt, 2, "f1kpp"},
	{SYS_clone, 6, "cpppn"},
	{SYS_fork, 1, ""},
	{SYS_vfork, 1, ""},
	{SYS_execve, 1, "spp"},
	{SYS_wait4, 8, "npgp"},
	{SYS_kill, 2, "it"},
	{SYS_uname, 1, "p"},
	{SYS_fcntl, 6, "fkn"},
	{SYS_fcntl, 2, "fnn"},
	{SYS_fcntl, 2, "fnp"},
	{SYS_flock, 1, "fk"},
	{SYS_fsync, 1, "f"},
	{SYS_ftruncate, 3, "fn"},
	{SYS_ftruncate, 3, "fl"},
	{SYS_getcwd, 1, "pl"},
	{SYS_chdir, 1, "s"},
	{SYS_fchdir, 1, "f"},
	{SYS_rename, 3, "ss"},
	{SYS_mkdir, 3, "sk"},
	{SYS_rmdir, 3, "s"},
	{SYS_creat, 2, "sk"},
	{SYS_unlink, 4, "s"},
	{SYS_symlink, 2, "ss"},
	{SYS_readlink, 2, "spl"},
	{SYS_chmod, 1, "sn"},
	{SYS_fchmod, 1, "fn"},
	{SYS_umask, 1, "n"},
	{SYS_gettimeofday, 1, "pp"},
	{SYS_getrlimit, 1, "kp"},
	{SYS_getrusage, 1, "np"},
	{SYS_sysinfo, 1, "p"},
	{SYS_times, 1, "p"},
	{SYS_setrlimit, 1, "mp"},
	{SYS_getgroups, 1, "kp"},
	{SYS_setgroups, 1, "kp"},
	{SYS_rt_sigpending, 1, "pk"},
	{SYS_rt_sigtimedwait, 1, "pppk"},
	{SYS_rt_sigqueueinfo, 1, "itp"},
	{SYS_rt_sigsuspend, 1, "pk"},
	{SYS_sigaltstack, 1, "0p"},
	{SYS_statfs, 1, "sp"},
	{SYS_fstatfs, 1, "fp"},
	{SYS_getpriority, 1, "kn"},
	{SYS_setpriority, 1, "kin"},
	{SYS_sched_setparam, 1, "ip"},
	{SYS_sched_getparam, 1, "ip"},
	{SYS_sched_setscheduler, 1, "iop"},
	{SYS_sched_getscheduler, 1, "i"},
	{SYS_sched_get_priority_max, 1, "n"},
	{SYS_mlock, 1, "az"},
	{SYS_munlock, 1, "az"},
	{SYS_mlockall, 1, "n"},
	{SYS_prctl, 2, "npppp"},
	{SYS_sync, 1, ""},
	{SYS_tkill, 1, "it"},
	{SYS_time, 1, "p"},
	{SYS_futex, 6, "pkkppn"},
	{SYS_futex, 4, "pnkppn"},
	{SYS_sched_setaffinity, 1, "ilp"},
	{SYS_sched_getaffinity, 1, "ilp"},
	{SYS_epoll_create, 2, "k"},
	{SYS_getdents64, 3, "fpl"},
	{SYS_set_tid_address, 1, "p"},
	{SYS_fadvise64, 1, "fnnk"},
	{SYS_clock_gettime, 1, "kp"},
	{SYS_clock_getres, 1, "kp"},
	{SYS_clock_nanosleep, 1, "kgpp"},
	{SYS_epoll_wait, 2, "fpkk"},
	{SYS_epoll_ctl, 10, "fkfp"},
	{SYS_tgkill, 1, "iit"},
	{SYS_waitid, 3, "knpgp"},
	{SYS_mkdirat, 1, "fsk"},
	{SYS_newfstatat, 1, "fspg"},
	{SYS_unlinkat, 2, "fsg"},
	{SYS_renameat, 1, "fsfs"},
	{SYS_symlinkat, 1, "sfs"},
	{SYS_readlinkat, 1, "fspl"},
	{SYS_fchmodat, 1, "fsk"},
	{SYS_faccessat, 1, "fsk"},
	{SYS_pselect6, 2, "kppppp"},
	{SYS_ppoll, 2, "pkppk"},
	{SYS_set_robust_list, 1, "pl"},
	{SYS_epoll_pwait, 2, "fpkkpk"},
	{SYS_timerfd_create, 4, "kg"},
	{SYS_eventfd, 4, "n"},
	{SYS_fallocate, 3, "fgnn"},
	{SYS_fallocate, 3, "fkll"},
	{SYS_timerfd_settime, 5, "fgpp"},
	{SYS_timerfd_gettime, 2, "fp"},
	{SYS_accept4, 2, "fppg"},
	{SYS_signalfd4, 3, "fpkg"},
	{SYS_eventfd2, 4, "ng"},
	{SYS_epoll_create1, 4, "g"},
	{SYS_dup3, 3, "fdg"},
	{SYS_pipe2, 4, "pg"},
	{SYS_preadv, 2, "fpknn"},
	{SYS_pwritev, 2, "fpkkk"},
	{SYS_rt_tgsigqueueinfo, 1, "iitp"},
	{SYS_prlimit64, 1, "impp"},
	{SYS_getcpu, 1, "ppp"},
	{SYS_renameat2, 1, "fsfsg"},
	{SYS_getrandom, 3, "plg"},
	{SYS_memfd_create, 6, "sg"},
	{SYS_membarrier, 1, "ggn"},
	{SYS_preadv2, 1, "fpknng"},
	{SYS_pwritev2, 1, "fpkkkg"},
	{SYS_statx, 1, "fsgnp"},
	{SYS_close_range, 1, "ddg"},
	{SYS_epoll_pwait2, 1, "fpkppk"},
	{SYS_capget, 1, "pp"},
	{SYS_capset, 1, "pp"},
	{SYS_setpgid, 1, "ii"},
	{SYS_getsid, 1, "i"},
	{SYS_setuid, 1, "k"},
};

/* Numbers that are drawn without a rule: those that are no calls at all are among them, those that
 * end the fun are not. */
static bool is_harmless(uint32_t number)
{
	switch (number) {
	case SYS_rt_sigreturn:
	case SYS_exit:
	case SYS_exit_group:
	case SYS_kill:
	case SYS_tkill:
	case SYS_tgkill:
	case SYS_rt_sigqueueinfo:
	case SYS_rt_tgsigqueueinfo:
	case SYS_munmap:
	case SYS_mprotect:
	case SYS_mremap:
	case SYS_mmap:
	case SYS_madvise:
	case SYS_brk:
	case SYS_arch_prctl:
	case SYS_close:
	case SYS_close_range:
	case SYS_dup2:
	case SYS_dup3:
	case SYS_seccomp:
	case SYS_setrlimit:
	case SYS_prlimit64:
	case SYS_rt_sigaction:
	case SYS_rt_sigprocmask:
	case SYS_sigaltstack:
	case SYS_sched_setscheduler:
	case SYS_sched_setparam:
	case SYS_write:
	case SYS_writev:
	case SYS_read:
	case SYS_ioctl:
	case SYS_pause:
	case SYS_reboot:
		return false;
	default:
		return true;
	}
}

static void any_call(struct random *r, uint32_t *number, uint64_t a[6])
{
	static unsigned total;

	if (random_one_in(r, 20)) {
		do {
			*number = random_below(r, 470);
		} while (!is_harmless(*number));
		for (unsigned i = 0; i < 6; i++) {
			a[i] = random_one_in(r, 2) ? any_pointer(r) : random_word(r);
		}
		return;
	}
	if (total == 0) {
		unsigned sum = 0;

		for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
			sum += calls[i].weight;
		}
		total = sum;
	}
	const struct call *c = calls;

	for (uint32_t at = random_below(r, total); at >= c->weight; c++) {
		at -= c->weight;
	}
	*number = c->number;
	for (unsigned i = 0; i < 6; i++) {
		char kind = i < strlen(c->kinds) ? c->kinds[i] : 'n';

		a[i] = kind >= '1' && kind <= '9' ? (uint64_t)(kind - '0') : argument(r, kind);
	}
	if (c->number == SYS_mmap) {
		/* Where it is told, not over others' memory; private or shared. */
		a[3] = (a[3] & ~UINT64_C(0x3)) | 0x10 | (random_one_in(r, 2) ? 1 : 2) |
		       (random_one_in(r, 2) ? 0x20 : 0);
	}
	if (c->number == SYS_mremap) {
		a[3] &= ~UINT64_C(2); /* not to a fixed place */
	}
	if (c->number == SYS_prctl && a[0] == 22) {
		a[0] = 4;
	}
}

/* ---- VMs ---- */

static void keep(_Atomic int kept[KEPT], struct random *r, int64_t fd)
{
	if (fd >= 0) {
		atomic_store(&kept[random_below(r, KEPT)], (int)fd);
	}
}

static int64_t do_ioctl(int fd, uint64_t request, uint64_t argument_)
{
	const uint64_t a[6] = {(uint64_t)fd, request, argument_};

	return raw_call(SYS_ioctl, a);
}

static int64_t set_memory(struct random *r, int fd)
{
	struct kvm_userspace_memory_region slot = {
		.slot = random_below(r, 4),
		.flags = random_below(r, 4),
		.guest_phys_addr = random_below(r, 8) * 0x10000,
		.memory_size = random_below(r, 5) * 0x8000,
		.userspace_addr = random_one_in(r, 2) ? (uintptr_t)buffers
						      : PLAYGROUND + random_below(r, 64) * PAGE,
	};

	if (random_one_in(r, 8)) {
		((uint64_t *)&slot)[random_below(r, 4)] = random_word(r);
	}
	return do_ioctl(fd, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&slot);
}

static void new_vm(struct random *r)
{
	int64_t vm = do_ioctl(atomic_load(&kvm_fd), KVM_CREATE_VM, 0);

	if (vm < 0) {
		return;
	}
	keep(kept_vm, r, vm);
	if (random_one_in(r, 2)) {
		do_ioctl((int)vm, KVM_CREATE_IRQCHIP, 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		set_memory(r, (int)vm);
	}
	int64_t vcpu = do_ioctl((int)vm, KVM_CREATE_VCPU, 0);

	keep(kept_vcpu, r, vcpu);
	if (vcpu >= 0) {
		uint8_t *run =
			mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, (int)vcpu, 0);

		if (run != MAP_FAILED) {
			uint8_t *old = atomic_exchange(&kept_run[random_below(r, KEPT)], run);

			/* Another thread may be about to write there: so it stays mapped. */
			if (old != NULL) {
				mmap(old, 3 * PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			}
		}
	}
}

static uint64_t ioctl_argument(struct worker *w, const struct ioctl_entry *e)
{
	struct random *r = &w->random;
	uint64_t *words = (uint64_t *)w->ioctl_buffer;

	if (e->is_value) {
		return random_one_in(r, 4) ? random_word(r) : random_below(r, 4);
	}
	if (random_one_in(r, 32)) {
		return bad_address(r);
	}
	if (random_one_in(r, 32)) {
		return any_pointer(r);
	}
	if (random_one_in(r, 6)) {
		fill(r, w->ioctl_buffer, 64);
		if (random_one_in(r, 2)) {
			words[0] = random_below(r, 8); /* of a table: how many */
		}
	} else {
		for (unsigned n = random_below(r, 3); n > 0; n--) {
			uint32_t at = random_below(r, random_one_in(r, 2) ? 8 : 512);

			if (random_one_in(r, 2)) {
				words[at] = random_word(r);
			} else {
				w->ioctl_buffer[at * 8 + random_below(r, 8)] ^=
					(uint8_t)(1 << random_below(r, 8));
			}
		}
	}
	return (uintptr_t)w->ioctl_buffer;
}

static const struct ioctl_entry *find_request(uint32_t request)
{
	for (size_t i = 0; i < ioctl_count; i++) {
		if (ioctl_table[i].request == request) {
			return &ioctl_table[i];
		}
	}
	abort();
}

/* A GET, and a little later the SET of what it gave, somewhat changed. */
static void get_and_set(struct worker *w, int fd)
{
	static const uint32_t pairs[][2] = {
		{KVM_GET_REGS, KVM_SET_REGS},
		{KVM_GET_SREGS, KVM_SET_SREGS},
		{KVM_GET_SREGS2, KVM_SET_SREGS2},
		{KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS},
		{KVM_GET_FPU, KVM_SET_FPU},
		{KVM_GET_LAPIC, KVM_SET_LAPIC},
		{KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS},
		{KVM_GET_XSAVE, KVM_SET_XSAVE},
		{KVM_GET_XCRS, KVM_SET_XCRS},
		{KVM_GET_MP_STATE, KVM_SET_MP_STATE},
	};
	const uint32_t *pair = pairs[random_below(&w->random, sizeof(pairs) / sizeof(pairs[0]))];

	if (do_ioctl(fd, pair[0], (uintptr_t)w->ioctl_buffer) == 0) {
		do_ioctl(fd, pair[1], ioctl_argument(w, find_request(pair[1])));
	}
	atomic_fetch_add(&w->steps, 1);
}

static void vm_step(struct worker *w)
{
	struct random *r = &w->random;
	int vm = atomic_load(&kept_vm[random_below(r, KEPT)]);
	int vcpu = atomic_load(&kept_vcpu[random_below(r, KEPT)]);
	uint8_t *run = atomic_load(&kept_run[random_below(r, KEPT)]);

	switch (random_below(r, 16)) {
	case 0:
		if (random_one_in(r, 4)) {
			new_vm(r);
		} else if (random_one_in(r, 2)) {
			close(vm);
			close(vcpu);
		} else {
			set_memory(r, vm);
		}
		return;
	case 1:
		if (run != NULL) {
			*(uint64_t *)(run + random_below(r, 3 * PAGE / 8) * 8) = random_word(r);
			run[1] = random_one_in(r, 16); /* immediate_exit */
		}
		return;
	case 2:
		do_ioctl(vcpu, KVM_RUN, 0);
		atomic_fetch_add(&count->vm_runs, 1);
		return;
	case 3:
	case 4:
		get_and_set(w, vcpu);
		return;
	default:
		break;
	}
	const struct ioctl_entry *e = &ioctl_table[random_below(r, (uint32_t)ioctl_count)];
	int fd = e->where == 's' ? atomic_load(&kvm_fd) : e->where == 'v' ? vm : vcpu;
	int64_t got = do_ioctl(random_one_in(r, 50) ? (int)any_fd(r) : fd, e->request,
			       ioctl_argument(w, e));

	if (e->request == KVM_CREATE_VM) {
		keep(kept_vm, r, got);
	} else if (e->request == KVM_CREATE_VCPU) {
		keep(kept_vcpu, r, got);
	}
}

/* ---- threads ---- */

static void interrupted(int number)
{
	(void)number;
}

static void handle_signals(void)
{
	struct sigaction action = {.sa_handler = interrupted};

	for (int number = 1; number < 32; number++) {
		if (number != SIGSEGV && number != SIGBUS && number != SIGILL && number != SIGFPE &&
		    number != SIGCHLD) {
			sigaction(number, &action, NULL);
		}
	}
}

static void start_over(struct random *r)
{
	sigset_t none;
	int fd;

	close_range(FD_FIRST, 1000, 0);
	fd = open("/dev/kvm", O_RDWR);
	atomic_store(&kvm_fd, fd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	new_vm(r);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct random *r = &w->random;

	atomic_store(&w->tid, gettid());
	for (uint64_t i = 0; i < w->limit; i++) {
		if (random_one_in(r, 3)) {
			vm_step(w);
		} else {
			uint64_t a[6];
			uint32_t number;

			any_call(r, &number, a);
			int64_t got = raw_call(number, a);

			if (got == -EMFILE) {
				start_over(r);
			}
			atomic_fetch_add(&count->errors, got < 0 && got > -4096);
		}
		atomic_fetch_add(&w->steps, 1);
		atomic_fetch_add(&count->calls, 1);
		if (i % 2000 == 0) {
			start_over(r);
			mmap((void *)PLAYGROUND, PLAY_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		}
	}
	atomic_store(&w->done, true);
	return NULL;
}

/* Who has done nothing for two ticks waits for something: a signal ends that. */
static void watch(void)
{
	const struct timespec tick = {.tv_nsec = TICK_NS};
	const struct sched_param first = {.sched_priority = 99};
	bool done = false;

	sched_setscheduler(0, SCHED_FIFO, &first);
	while (!done) {
		nanosleep(&tick, NULL);
		done = true;
		for (unsigned i = 0; i < WORKERS; i++) {
			struct worker *w = &workers[i];
			uint64_t steps = atomic_load(&w->steps);

			if (!atomic_load(&w->done)) {
				done = false;
				if (steps == w->seen && atomic_load(&w->tid) != 0) {
					tgkill(getpid(), atomic_load(&w->tid), SIGUSR1);
				}
			}
			w->seen = steps;
		}
	}
}

static uint8_t *pages_with_holes(size_t n)
{
	uint8_t *p =
		mmap(NULL, n * 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < n && p != MAP_FAILED; i++) {
		munmap(p + (2 * i + 1) * PAGE, PAGE);
	}
	return p;
}

int fuzz(unsigned seed, unsigned long limit)
{
	count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, FUZZ_FD, 0);
	buffers = pages_with_holes(BUFFERS);
	read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (count == MAP_FAILED || buffers == MAP_FAILED || read_only == MAP_FAILED) {
		return 9;
	}
	handle_signals();
	for (unsigned i = 0; i < KEPT; i++) {
		atomic_store(&kept_vm[i], -1);
		atomic_store(&kept_vcpu[i], -1);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		struct worker *w = &workers[i];

		random_seed(&w->random, (uint64_t)seed << 8 | i);
		w->limit = limit / WORKERS;
		w->ioctl_buffer = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (w->ioctl_buffer == MAP_FAILED ||
		    pthread_create(&w->thread, NULL, work, w) != 0) {
			return 9;
		}
	}
	watch();
	_exit(0);
}
