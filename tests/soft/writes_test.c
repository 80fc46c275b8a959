/*
 * Code over code which soft has translated: the guest calls the new one, never the old one, which
 * hardware does not do either. A disk reads it there, and the guest polls the ring, or waits for
 * the interrupt; or another vCPU stores it, and loses its CPU at the worst moment.
 *
 * Real are the device with its worker, its queue, and soft; the guest's driver is below. It rings
 * no doorbell, since an exit to the VMM would hide what is tested: this program polls its ring.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "soft/engine.h"
#include "soft/soft.h"
#include "soft/vcpu.h"
#include "vmm/host/host.h"
#include "vmm/virtio/test_blk.h"

/* The guest's memory: 32-bit code without paging. */
#define ENTRY	 0x20000
#define IDT	 0x21000
#define GDT	 0x21800
#define STACK	 0x23000
#define FUNCTION 0x24000 /* mov $NUMBER, %eax; ret */
#define STOP	 0x25000 /* the other vCPU is to end */
#define SEEN	 0x25004 /* what the interrupt's handler was told */
#define CALLS	 0x25014 /* how often the function was called */
#define VECTOR	 0x45
#define ROUNDS	 250 /* one byte changes: however it is copied, it is a function */
#define GOOD	 0x600d
#define PORT	 0x10
#define GSI	 24

#define APIC 0xfee00000u
#define SVR  0xf0

/*
 * EBX: the function; ESI, EDI: available and used ring; EBP: the header's sector; EDX: SEEN.
 * Round n reads sector n, whose function returns n. The call is a direct one, so that nothing
 * stands between the loop that polls and what is behind it but a jump that has been linked.
 */
__asm__(".pushsection .rodata\n"
	".code32\n"
	"polls:	mov $1, %ecx\n"
	"1:	mov %ecx, (%ebp); mov %cx, 2(%esi)\n"
	"2:	cmp %cx, 2(%edi); jne 2b\n"
	"	call polls + 0x4000\n" /* FUNCTION */
	"	cmp %ecx, %eax; jne 9f\n"
	"	inc %ecx; cmp $251, %ecx; jne 1b\n"
	"	mov $0x600d, %eax\n"
	"9:	outl %eax, $0x10; jmp 9b\n"
	"polls_end:\n"
	/* The other vCPU is no driver, but sees the ring. */
	"watches:\n"
	"1:	movzwl 2(%edi), %ecx\n"
	"	call watches + 0x3c00\n"
	"	cmp %ecx, %eax; jb 9f\n"
	"	cmpl $0, -4(%edx); je 1b\n"
	"	mov $0x600d, %eax\n"
	"9:	outl %eax, $0x10; jmp 9b\n"
	"watches_end:\n"
	"sleeps:	mov $1, %ecx; sti\n"
	"1:	mov %ecx, (%ebp); mov %cx, 2(%esi)\n"
	"2:	cli; cmp %cx, 2(%edi); je 3f; sti; hlt; jmp 2b\n"
	"3:	sti\n"
	"4:	pause; cmp %ecx, (%edx); jne 4b\n"
	"	inc %ecx; cmp $251, %ecx; jne 1b\n"
	"	mov $0x600d, %eax\n"
	"9:	outl %eax, $0x10; jmp 9b\n"
	"sleeps_end:\n"
	"spins:	mov $1, %ecx; sti\n"
	"1:	mov %ecx, (%ebp); mov %cx, 2(%esi)\n"
	"4:	pause; cmp %ecx, (%edx); jne 4b\n"
	"	inc %ecx; cmp $251, %ecx; jne 1b\n"
	"	mov $0x600d, %eax\n"
	"9:	outl %eax, $0x10; jmp 9b\n"
	"spins_end:\n"
	/* The handler, at ENTRY + 0x800; it is called once for each request. */
	"handles:	push %eax; call handles + 0x3800\n"
	"	cmp %ecx, %eax; je 1f; outl %eax, $0x10\n"
	"1:	mov %eax, (%edx); movl $0, 0xfee000b0; pop %eax; iret\n"
	"handles_end:\n"
	/*
	 * One stores number n into the function, and then tells of it at 0x20(%edx). The other
	 * calls it meanwhile, and something of its page that stays; having heard, it does what
	 * the manual asks of it, calls it once more, and answers at 0x30(%edx).
	 */
	"stores:	mov $1, %ecx\n"
	"1:	mov %ecx, 0x24001; mov %ecx, 0x20(%edx)\n"
	"2:	pause; cmpl $0, -4(%edx); jne 9f; cmp %ecx, 0x30(%edx); jne 2b\n"
	"	inc %ecx; cmp $251, %ecx; jne 1b\n"
	"	mov $0x600d, %eax\n"
	"9:	outl %eax, $0x10; jmp 9b\n"
	"stores_end:\n"
	"calls:	mov $1, %ecx\n"
	"1:	call calls + 0x4400; call calls + 0x3c00\n"
	"	incl 0x10(%edx); pause; cmp %ecx, 0x20(%edx); jne 1b\n"
	"	push %ecx; push %edx; cpuid; pop %edx; pop %ecx\n"
	"	call calls + 0x3c00\n"
	"	cmp %ecx, %eax; jne 8f\n"
	"	mov %ecx, 0x30(%edx); inc %ecx; cmp $251, %ecx; jne 1b\n"
	"	mov $0x600d, %eax; jmp 9f\n"
	"8:	movl $1, -4(%edx)\n"
	"9:	outl %eax, $0x10; jmp 9b\n"
	"calls_end:\n"
	".code64\n"
	".popsection\n");

extern const char polls[], polls_end[], watches[], watches_end[], sleeps[], sleeps_end[], spins[],
	spins_end[], handles[], handles_end[], stores[], stores_end[], calls[], calls_end[];

static const struct host_provider soft = {
	.name = "soft",
	.open = soft_open,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
	.writes_open = soft_writes_open,
	.writes_close = soft_writes_close,
	.wrote = soft_wrote,
};

struct guest {
	struct rig rig;
	struct host_vm vm;
	struct host_vcpu vcpu[2];
	pthread_t thread[2];
	unsigned nvcpus;
	uint32_t answer[2];
	atomic_uint ended;
	int irq;
};

static void on_write(void *ctx, const void *at, uint64_t len)
{
	host_wrote(ctx, at, len);
}

static void fill_disk(struct rig *r)
{
	uint8_t sector[512] = {0xb8, 0, 0, 0, 0, 0xc3};
	FILE *file = fopen(r->path, "r+e");

	assert_non_null(file);
	for (uint32_t i = 0; i <= ROUNDS; i++) {
		memcpy(sector + 1, &i, sizeof(i));
		assert_int_equal(fwrite(sector, sizeof(sector), 1, file), 1);
	}
	assert_int_equal(fclose(file), 0);
}

/* One request, that is made again and again. */
static void fill_ring(struct guest *g, bool interrupts)
{
	struct driver_queue *q = &g->rig.q[0];
	const struct vring_desc desc[] = {
		{HEADER, 16, VRING_DESC_F_NEXT, 1},
		{FUNCTION, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2},
		{STATUS, 1, VRING_DESC_F_WRITE, 0},
	};

	memcpy(driver_ptr(q, q->desc), desc, sizeof(desc));
	driver_interrupts(q, interrupts);
	set_header(&g->rig, HEADER, VIRTIO_BLK_T_IN, 0);
}

static void fill_code(struct guest *g, const char *code, const char *end, unsigned at)
{
	memcpy((uint8_t *)ram(&g->rig, ENTRY) + at, code, (size_t)(end - code));
}

static void fill_tables(struct guest *g)
{
	static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	const uint64_t gate = (ENTRY + 0x800) & 0xffff0000u;

	memcpy(ram(&g->rig, GDT), gdt, sizeof(gdt));
	((uint64_t *)ram(&g->rig, IDT))[VECTOR] =
		gate << 32 | 0x00008e0000080000 | ((ENTRY + 0x800) & 0xffff);
}

static void set_state(struct host_vcpu *vcpu, uint32_t rip, uint32_t stack,
		      const struct driver_queue *q)
{
	struct kvm_segment code = {.limit = UINT32_MAX,
				   .selector = 0x08,
				   .type = 11,
				   .present = 1,
				   .s = 1,
				   .db = 1,
				   .g = 1};
	struct kvm_segment data = code;
	struct kvm_regs regs = {
		.rip = rip,
		.rsp = stack,
		.rflags = 2,
		.rdx = SEEN,
		.rsi = q->driver,
		.rdi = q->device,
		.rbp = HEADER + offsetof(struct virtio_blk_outhdr, sector),
	};
	struct kvm_sregs sregs;

	data.selector = 0x10;
	data.type = 3;
	assert_int_equal(host_vcpu_get_sregs(vcpu, &sregs), 0);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.ss = data;
	sregs.gdt = (struct kvm_dtable){.base = GDT, .limit = 3 * 8 - 1};
	sregs.idt = (struct kvm_dtable){.base = IDT, .limit = 8 * 256 - 1};
	sregs.cr0 = 0x11;
	assert_int_equal(host_vcpu_set_sregs(vcpu, &sregs), 0);
	assert_int_equal(host_vcpu_set_regs(vcpu, &regs), 0);
}

static void route(struct guest *g)
{
	union {
		struct kvm_irq_routing table;
		uint8_t room[sizeof(struct kvm_irq_routing) + sizeof(struct kvm_irq_routing_entry)];
	} routing = {.table = {.nr = 1}};

	routing.table.entries[0] = (struct kvm_irq_routing_entry){
		.gsi = GSI,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = APIC, .data = VECTOR},
	};
	g->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(g->irq >= 0);
	assert_int_equal(host_set_routing(&g->vm, &routing.table), 0);
	assert_int_equal(host_irqfd(&g->vm, g->irq, GSI, true), 0);
}

/* Not by the guest: no sanitizer sees what orders that and the interrupts. */
static void switch_apic_on(struct host_vcpu *vcpu)
{
	struct kvm_lapic_state apic;

	assert_int_equal(host_vcpu_get_lapic(vcpu, &apic), 0);
	store_le32((uint8_t *)apic.regs + SVR, 0x1ff);
	assert_int_equal(host_vcpu_set_lapic(vcpu, &apic), 0);
}

static void guest_init(struct guest *g, unsigned nvcpus, bool interrupts)
{
	*g = (struct guest){.nvcpus = nvcpus};
	rig_init(&g->rig, 0);
	fill_disk(&g->rig);
	assert_int_equal(soft_engine_choose("translate-checked"), 0);
	assert_int_equal(host_open(&g->vm, &soft), 0);
	assert_int_equal(
		host_memory_slot(&g->vm, 0, gpa(0), DRIVER_LOW_BYTES, g->rig.mem.region[0].host),
		0);
	g->rig.mem.wrote = on_write;
	g->rig.mem.wrote_ctx = &g->vm;
	for (unsigned i = 0; i < nvcpus; i++) {
		assert_int_equal(host_vcpu_create(&g->vm, &g->vcpu[i], i), 0);
		set_state(&g->vcpu[i], ENTRY + 0x400 * i, STACK - 0x800 * i, &g->rig.q[0]);
	}
	if (nvcpus > 1) {
		struct kvm_mp_state state = {KVM_MP_STATE_RUNNABLE};

		assert_int_equal(soft_ioctl(g->vcpu[1].fd, KVM_SET_MP_STATE, (uintptr_t)&state), 0);
	}
	switch_apic_on(&g->vcpu[0]);
	fill_ring(g, interrupts);
	fill_tables(g);
	fill_code(g, handles, handles_end, 0x800);
	memcpy(ram(&g->rig, FUNCTION), "\xb8\0\0\0\0\xc3", 6);
	route(g);
}

static void guest_fini(struct guest *g)
{
	for (unsigned i = 0; i < g->nvcpus; i++) {
		host_vcpu_destroy(&g->vm, &g->vcpu[i]);
	}
	close(g->irq);
	rig_fini(&g->rig);
	host_close(&g->vm);
}

/* To its OUT. */
static uint32_t run(struct host_vcpu *vcpu)
{
	uint32_t answer = UINT32_MAX;
	int r;

	do {
		r = host_vcpu_run(vcpu);
	} while (r == -EINTR);
	if (r == 0 && vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == PORT) {
		memcpy(&answer, (const uint8_t *)vcpu->run + vcpu->run->io.data_offset,
		       sizeof(answer));
	}
	return answer;
}

static void *run_first(void *arg)
{
	struct guest *g = arg;

	g->answer[0] = run(&g->vcpu[0]);
	__atomic_store_n((uint32_t *)ram(&g->rig, STOP), 1, __ATOMIC_RELEASE);
	atomic_fetch_add(&g->ended, 1);
	return NULL;
}

static void *run_second(void *arg)
{
	struct guest *g = arg;

	g->answer[1] = run(&g->vcpu[1]);
	atomic_fetch_add(&g->ended, 1);
	return NULL;
}

/* Doorbell and interrupt, until the guest has ended. */
static void serve(struct guest *g)
{
	const struct driver_queue *q = &g->rig.q[0];
	const struct vring_avail *avail = driver_ptr(q, q->driver);
	unsigned interrupts = 0;
	uint16_t rung = 0;

	while (atomic_load(&g->ended) < g->nvcpus) {
		uint16_t idx = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
		unsigned raised = atomic_load(&g->rig.interrupts);

		if (idx != rung) {
			rung = idx;
			ring(&g->rig, 0);
		}
		if (raised != interrupts) {
			interrupts = raised;
			assert_int_equal(eventfd_write(g->irq, 1), 0);
		}
		nap();
	}
}

static void *(*const runs[])(void *) = {run_first, run_second};

/* To the end of all vCPUs. */
static void run_all(struct guest *g)
{
	for (unsigned i = 0; i < g->nvcpus; i++) {
		assert_int_equal(pthread_create(&g->thread[i], NULL, runs[i], g), 0);
	}
	serve(g);
	for (unsigned i = g->nvcpus; i-- > 0;) {
		pthread_join(g->thread[i], NULL);
		assert_int_equal(g->answer[i], GOOD);
	}
}

static void sees_new_code(const char *code, const char *end, unsigned nvcpus, bool interrupts)
{
	struct guest *g = test_calloc(1, sizeof(*g));

	guest_init(g, nvcpus, interrupts);
	fill_code(g, code, end, 0);
	fill_code(g, watches, watches_end, 0x400);
	run_all(g);
	guest_fini(g);
	test_free(g);
}

/* ---- a store that is late ---- */

enum insn_outcome __real_soft_mmu_host(struct soft_vcpu *vcpu, uint64_t linear,
				       enum soft_access access, bool system, uint8_t **host);
enum insn_outcome __wrap_soft_mmu_host(struct soft_vcpu *vcpu, uint64_t linear,
				       enum soft_access access, bool system, uint8_t **host);

static uint32_t calls_made(const uint8_t *function)
{
	return __atomic_load_n((const uint32_t *)(const void *)(function + CALLS - FUNCTION),
			       __ATOMIC_SEQ_CST);
}

/*
 * The first vCPU does not come to its store before the second one has forgotten the function, and
 * has called it often enough to have translated what is still there; or waits for the store.
 */
static void lose_cpu(const struct soft_vcpu *vcpu, const uint8_t *function)
{
	const struct soft_vcpu *other = soft_vcpu_of(kvm_vm_vcpu(vcpu->kvm->vm, 1));
	uint32_t made;

	while (atomic_load(&other->mail.there) && atomic_load(&vcpu->vm->owner) == NULL) {
		sched_yield();
	}
	made = calls_made(function);
	while (calls_made(function) - made < 3 && atomic_load(&vcpu->vm->owner) == NULL) {
		sched_yield();
	}
}

enum insn_outcome __wrap_soft_mmu_host(struct soft_vcpu *vcpu, uint64_t linear,
				       enum soft_access access, bool system, uint8_t **host)
{
	enum insn_outcome outcome = __real_soft_mmu_host(vcpu, linear, access, system, host);

	if (outcome == INSN_DONE && access == SOFT_WRITE && linear == FUNCTION + 1) {
		lose_cpu(vcpu, *host - 1);
	}
	return outcome;
}

static void calling_sees_what_is_stored_late(void **state)
{
	struct guest *g = test_calloc(1, sizeof(*g));

	(void)state;
	guest_init(g, 2, false);
	fill_code(g, stores, stores_end, 0);
	fill_code(g, calls, calls_end, 0x400);
	memcpy(ram(&g->rig, FUNCTION + 0x800), "\xc3", 1);
	run_all(g);
	guest_fini(g);
	test_free(g);
}

static void polling_sees_new_code(void **state)
{
	(void)state;
	sees_new_code(polls, polls_end, 1, false);
}

static void who_is_not_the_driver_sees_new_code(void **state)
{
	(void)state;
	sees_new_code(polls, polls_end, 2, false);
}

static void sleeping_sees_new_code(void **state)
{
	(void)state;
	sees_new_code(sleeps, sleeps_end, 1, true);
}

static void spinning_sees_new_code(void **state)
{
	(void)state;
	sees_new_code(spins, spins_end, 1, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(polling_sees_new_code),
		cmocka_unit_test(who_is_not_the_driver_sees_new_code),
		cmocka_unit_test(sleeping_sees_new_code),
		cmocka_unit_test(spinning_sees_new_code),
		cmocka_unit_test(calling_sees_what_is_stored_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
