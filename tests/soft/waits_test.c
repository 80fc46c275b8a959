/*
 * vCPUs that sleep: an interrupt behind STI does not come before the HLT which is to wait for it;
 * and a signal that nobody wants to hear of does not keep the thread awake.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/base/bytes.h"
#include "soft/engine.h"
#include "soft/soft.h"
#include "tests/unit.h"

/* The guest's memory: 32-bit code without paging. */
#define RAM    0x40000
#define GDT    0x10000
#define IDT    0x11000
#define STACK  0x13000
#define STOP   0x14000 /* the guest is to end */
#define CAME   0x14004 /* interrupts */
#define BEFORE 0x14008 /* of these, between STI and HLT */
#define SECOND 0x21000 /* a page that begins with the HLT */
#define VECTOR 0x45
#define SVR    0xf0

#define NS	INT64_C(1000000000)
#define WHILE	(NS / 2)
#define ATTEMPT (NS / 5)

/* INVLPG has it that the second page is not known when STI, the first one's last byte, leads there.
 */
__asm__(".pushsection .rodata\n"
	".code32\n"
	"halts:	fld1\n"
	"1:	cli\n"
	"	invlpg 0x21000\n"
	"	.rept 50\n"
	"	fsin\n"
	"	.endr\n"
	"	sti\n"
	"halts_at:	hlt\n"
	"	cmpl $0, 0x14000\n"
	"	je 1b\n"
	"	out %eax, $0x10\n"
	"came:	cmpl $0x21000, (%esp)\n"
	"	jne 2f\n"
	"	incl 0x14008\n"
	"2:	incl 0x14004\n"
	"	movl $0, 0xfee000b0\n"
	"	iret\n"
	"halts_end:\n"
	".code64\n"
	".popsection\n");

extern const char halts[], halts_at[], came[], halts_end[];

struct guest {
	int kvm_fd, vm_fd, fd;
	uint8_t *ram;
	struct kvm_run *run;
	size_t run_bytes;
	pthread_t thread;
	int result;
	atomic_bool ended;
};

#define must(call) assert_true((call) >= 0)

static int call(int fd, unsigned long request, const void *argument)
{
	return soft_ioctl(fd, request, (uintptr_t)argument);
}

static void set_state(const struct guest *g, uint32_t rip)
{
	static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	struct kvm_segment code = {.limit = UINT32_MAX,
				   .selector = 0x08,
				   .type = 11,
				   .present = 1,
				   .s = 1,
				   .db = 1,
				   .g = 1};
	struct kvm_segment data = code;
	struct kvm_regs regs = {.rip = rip, .rsp = STACK, .rflags = 2};
	struct kvm_lapic_state apic;
	struct kvm_sregs sregs;
	uint32_t handler = (uint32_t)(SECOND + (came - halts_at));

	data.selector = 0x10;
	data.type = 3;
	memcpy(g->ram + GDT, gdt, sizeof(gdt));
	store_le64(g->ram + IDT + 8 * VECTOR, (uint64_t)(handler & 0xffff0000) << 32 |
						      UINT64_C(0x00008e0000080000) |
						      (handler & 0xffff));
	must(call(g->fd, KVM_GET_SREGS, &sregs));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.ss = data;
	sregs.gdt = (struct kvm_dtable){.base = GDT, .limit = sizeof(gdt) - 1};
	sregs.idt = (struct kvm_dtable){.base = IDT, .limit = 8 * 256 - 1};
	sregs.cr0 = 0x11;
	must(call(g->fd, KVM_SET_SREGS, &sregs));
	must(call(g->fd, KVM_SET_REGS, &regs));
	must(call(g->fd, KVM_GET_LAPIC, &apic));
	store_le32((uint8_t *)apic.regs + SVR, 0x1ff);
	must(call(g->fd, KVM_SET_LAPIC, &apic));
}

static void guest_init(struct guest *g, const char *engine)
{
	struct kvm_userspace_memory_region slot = {.memory_size = RAM};

	memset(g, 0, sizeof(*g));
	if (soft_engine_choose(engine) != 0) {
		skip();
	}
	g->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(g->ram, MAP_FAILED);
	memcpy(g->ram + SECOND - (halts_at - halts), halts, (size_t)(halts_end - halts));
	slot.userspace_addr = (uintptr_t)g->ram;
	must(g->kvm_fd = soft_open());
	must(g->vm_fd = call(g->kvm_fd, KVM_CREATE_VM, NULL));
	must(call(g->vm_fd, KVM_CREATE_IRQCHIP, NULL));
	must(call(g->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot));
	must(g->fd = call(g->vm_fd, KVM_CREATE_VCPU, NULL));
	g->run_bytes = (size_t)call(g->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	g->run = soft_mmap(g->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);
	assert_ptr_not_equal(g->run, MAP_FAILED);
}

static void guest_fini(struct guest *g)
{
	munmap(g->run, g->run_bytes);
	soft_close(g->fd);
	soft_close(g->vm_fd);
	soft_close(g->kvm_fd);
	munmap(g->ram, RAM);
}

static void *run(void *arg)
{
	struct guest *g = arg;

	g->result = call(g->fd, KVM_RUN, NULL) < 0 ? -errno : (int)g->run->exit_reason;
	atomic_store(&g->ended, true);
	return NULL;
}

static void start(struct guest *g, uint32_t rip)
{
	set_state(g, rip);
	assert_int_equal(pthread_create(&g->thread, NULL, run, g), 0);
}

static int64_t ns_of(clockid_t clock)
{
	struct timespec now;

	assert_int_equal(clock_gettime(clock, &now), 0);
	return now.tv_sec * NS + now.tv_nsec;
}

static uint32_t *word(const struct guest *g, uint32_t at)
{
	return (uint32_t *)(void *)(g->ram + at);
}

static void sti_and_hlt_are_one(const char *engine)
{
	const struct kvm_msi message = {.address_lo = 0xfee00000, .data = VECTOR};
	int64_t end = ns_of(CLOCK_MONOTONIC) + WHILE;
	struct guest g;

	guest_init(&g, engine);
	start(&g, (uint32_t)(SECOND - (halts_at - halts)));
	while (!atomic_load(&g.ended)) {
		must(call(g.vm_fd, KVM_SIGNAL_MSI, &message));
		if (ns_of(CLOCK_MONOTONIC) > end) {
			__atomic_store_n(word(&g, STOP), 1, __ATOMIC_RELEASE);
		}
	}
	pthread_join(g.thread, NULL);
	assert_int_equal(g.result, KVM_EXIT_IO);
	assert_true(*word(&g, CAME) > 100);
	assert_int_equal(*word(&g, BEFORE), 0);
	guest_fini(&g);
}

static void halts_behind_sti(void **state)
{
	(void)state;
	sti_and_hlt_are_one("interpret");
	sti_and_hlt_are_one("translate-checked");
}

static void nothing(int number)
{
	(void)number;
}

static void wait_ns(int64_t ns)
{
	const struct timespec time = {.tv_nsec = ns};

	nanosleep(&time, NULL);
}

static void sleeps_through_what_is_ignored(void **state)
{
	const struct sigaction action = {.sa_handler = nothing};
	clockid_t clock;
	struct guest g;
	int64_t used;

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	guest_init(&g, "interpret");
	start(&g, SECOND);
	wait_ns(ATTEMPT);
	assert_int_equal(pthread_getcpuclockid(g.thread, &clock), 0);
	assert_int_equal(pthread_kill(g.thread, SIGWINCH), 0);
	used = ns_of(clock);
	wait_ns(ATTEMPT);
	used = ns_of(clock) - used;
	assert_false(atomic_load(&g.ended));
	assert_int_equal(pthread_kill(g.thread, SIGUSR1), 0);
	pthread_join(g.thread, NULL);
	assert_int_equal(g.result, -EINTR);
	assert_true(used < ATTEMPT / 4);
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(halts_behind_sti),
		cmocka_unit_test(sleeps_through_what_is_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
