#include "soft/native.h"

#include <cpuid.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "lib/kvm/registers.h"
#include "soft/vcpu.h"

#define SLOT_BYTES 32
#define BYTES	   ((size_t)SOFT_NATIVE_SLOTS * SLOT_BYTES)

#define XCR0_KNOWN  7	   /* x87, SSE, AVX */
#define LEAF7_OSPKE BIT(4) /* in ECX */
#define PKRU	    9	   /* its component */
#define PKRU_BYTES  8

/* In the XSAVE area. Spec: Intel SDM vol. 1, 13.4 "XSAVE Area" */
#define AT_FOP	      6
#define AT_FIP	      8
#define AT_FDP	      16
#define AT_MXCSR      24
#define AT_MXCSR_MASK 28
#define AT_HEADER_END 576
#define AT_AVX	      576
#define AVX_BYTES     256

#define MXCSR_FIRST UINT32_C(0xffbf) /* of CPUs that do not tell */

#define FLAGS_ARITH UINT64_C(0x8d5)

/* What one run needs; the assembly below knows the places. */
struct run {
	uint64_t gpr[16];
	uint64_t rflags;
	uint8_t *area;
	uint64_t mask;
	uint64_t vector; /* of the exception, if it trapped */
	uint64_t trapped;
	uint64_t fresh; /* the slot was just written */
	uint64_t avx;
};

_Static_assert(offsetof(struct run, rflags) == 128 && offsetof(struct run, area) == 136 &&
		       offsetof(struct run, mask) == 144 && offsetof(struct run, fresh) == 168 &&
		       offsetof(struct run, avx) == 176,
	       "offsets below");

/*
 * int soft_native_enter(struct run *run, const void *slot): 0, or -EFAULT: the area is not one.
 *
 * On the stack: [rsp] slot, 8 the guest's RDI for a moment, 16 run, 24 MXCSR, 28 FCW, 32 flags.
 * Who writes code by one address and executes it by another has to serialize between, which IRETQ
 * does. Spec: Intel SDM vol. 3A, 8.1.3 "Handling Self- and Cross-Modifying Code"
 */
__asm__(".pushsection .text\n"
	".globl soft_native_enter, soft_native_restore, soft_native_leave, soft_native_bad\n"
	"soft_native_enter:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	"
	"push %r15\n"
	"	sub $40, %rsp\n"
	"	mov %rsi, (%rsp)\n"
	"	mov %rdi, 16(%rsp)\n"
	"	stmxcsr 24(%rsp)\n"
	"	fnstcw 28(%rsp)\n"
	"	cmpq $0, 168(%rdi)\n"
	"	je 1f\n"
	"	mov %rsp, %rax\n"
	"	mov %ss, %ecx\n	push %rcx\n	push %rax\n	pushfq\n"
	"	mov %cs, %ecx\n	push %rcx\n"
	"	lea 1f(%rip), %rcx\n	push %rcx\n"
	"	iretq\n"
	"1:	mov 136(%rdi), %rcx\n"
	"	mov 144(%rdi), %eax\n"
	"	xor %edx, %edx\n"
	"soft_native_restore:\n"
	"	xrstor64 (%rcx)\n"
	"	pushq 128(%rdi)\n	popfq\n"
	"	mov 0(%rdi), %rax\n	mov 8(%rdi), %rcx\n	mov 16(%rdi), %rdx\n"
	"	mov 24(%rdi), %rbx\n	mov 40(%rdi), %rbp\n	mov 48(%rdi), %rsi\n"
	"	mov 64(%rdi), %r8\n	mov 72(%rdi), %r9\n	mov 80(%rdi), %r10\n"
	"	mov 88(%rdi), %r11\n	mov 96(%rdi), %r12\n	mov 104(%rdi), %r13\n"
	"	mov 112(%rdi), %r14\n	mov 120(%rdi), %r15\n	mov 56(%rdi), %rdi\n"
	"	jmp *(%rsp)\n"
	"soft_native_leave:\n"
	"	mov %rdi, 8(%rsp)\n"
	"	mov 16(%rsp), %rdi\n"
	"	mov %rax, 0(%rdi)\n	mov %rcx, 8(%rdi)\n	mov %rdx, 16(%rdi)\n"
	"	mov %rbx, 24(%rdi)\n	mov %rbp, 40(%rdi)\n	mov %rsi, 48(%rdi)\n"
	"	mov 8(%rsp), %rax\n	mov %rax, 56(%rdi)\n"
	"	mov %r8, 64(%rdi)\n	mov %r9, 72(%rdi)\n	mov %r10, 80(%rdi)\n"
	"	mov %r11, 88(%rdi)\n	mov %r12, 96(%rdi)\n	mov %r13, 104(%rdi)\n"
	"	mov %r14, 112(%rdi)\n	mov %r15, 120(%rdi)\n"
	"	pushfq\n	popq 128(%rdi)\n"
	"	mov 136(%rdi), %rcx\n"
	"	mov 144(%rdi), %eax\n"
	"	xor %edx, %edx\n"
	"	xsave64 (%rcx)\n"
	"	cmpq $0, 176(%rdi)\n"
	"	je 1f\n"
	"	vzeroupper\n"
	"1:	xor %eax, %eax\n"
	"2:	fninit\n"
	"	fldcw 28(%rsp)\n"
	"	ldmxcsr 24(%rsp)\n"
	"	add $40, %rsp\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	"
	"pop %rbx\n"
	"	ret\n"
	"soft_native_bad:\n"
	"	mov $-14, %eax\n"
	"	jmp 2b\n"
	".popsection\n");

_Static_assert(EFAULT == 14, "the number above");

extern const char soft_native_restore[], soft_native_leave[], soft_native_bad[];

int soft_native_enter(struct run *run, const void *slot);

/* What this thread executes right now. */
static _Thread_local struct run *running;
static _Thread_local const uint8_t *running_slot;

uint64_t soft_native_features(void)
{
	uint32_t regs[4], low, high;

	__cpuid(1, regs[0], regs[1], regs[2], regs[3]);
	if ((regs[2] & bit_OSXSAVE) == 0) {
		return 0;
	}
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	low &= XCR0_KNOWN | (uint32_t)XCR0_PKRU;
	return soft_native_pkru_at() != 0 ? low : low & XCR0_KNOWN;
}

uint32_t soft_native_pkru_at(void)
{
	uint32_t regs[4] = {0}, low, high;

	if (__get_cpuid_count(7, 0, &regs[0], &regs[1], &regs[2], &regs[3]) == 0 ||
	    (regs[2] & LEAF7_OSPKE) == 0) {
		return 0;
	}
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	__cpuid_count(0xd, PKRU, regs[0], regs[1], regs[2], regs[3]);
	/* Guests are told what this CPU says; of the compact format, that it is not aligned. */
	return (low & XCR0_PKRU) != 0 && regs[0] == PKRU_BYTES && regs[2] == 0 &&
			       regs[1] <= SOFT_NATIVE_IMAGE - PKRU_BYTES
		       ? regs[1]
		       : 0;
}

/* The place of AVX is the same in all CPUs. */
void soft_native_component(uint32_t i, uint32_t pkru_at, uint32_t regs[4])
{
	bool avx = i == 2, pkru = i == PKRU;

	regs[0] = avx ? AVX_BYTES : pkru ? PKRU_BYTES : 0;
	regs[1] = avx ? AT_AVX : pkru ? pkru_at : 0;
	regs[2] = 0;
	regs[3] = 0;
}

/* Of the host's CPU. Spec: Intel SDM vol. 1, 11.6.6 "Guidelines for Writing to the MXCSR Register"
 */
static uint32_t mxcsr_mask(void)
{
	_Alignas(16) uint8_t area[512];
	uint32_t mask;

	memset(area, 0, sizeof(area));
	__asm__ volatile("fxsave64 %0" : "=m"(area) : : "memory");
	mask = load_le32(area + AT_MXCSR_MASK);
	return mask != 0 ? mask : MXCSR_FIRST;
}

int soft_native_init(struct soft_native *native)
{
	int fd, r = 0;

	if (soft_native_features() == 0) {
		return -ENODEV;
	}
	fd = memfd_create("soft-native", MFD_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, BYTES) != 0) {
		r = -errno;
		close(fd);
		return r;
	}
	native->mxcsr = mxcsr_mask();
	native->write = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	native->execute = mmap(NULL, BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (native->write == MAP_FAILED || native->execute == MAP_FAILED) {
		r = -errno;
		soft_native_fini(native);
	}
	close(fd);
	return r;
}

void soft_native_fini(struct soft_native *native)
{
	if (native->write != NULL && native->write != MAP_FAILED) {
		munmap(native->write, BYTES);
	}
	if (native->execute != NULL && native->execute != MAP_FAILED) {
		munmap(native->execute, BYTES);
	}
	native->write = NULL;
	native->execute = NULL;
}

/* ---- slots ---- */

/* The slot that holds the instruction. *@fresh: it does only now. */
static const uint8_t *slot_of(struct soft_native *native, const struct insn_native *n,
			      uint64_t *fresh)
{
	/* jmp [rip + 0], and the address behind it */
	static const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0};
	const char *leave = soft_native_leave;
	uint8_t slot[SLOT_BYTES];
	uint32_t hash = 0;
	size_t at;

	memset(slot, 0xcc, sizeof(slot));
	memcpy(slot, n->code, n->len);
	memcpy(slot + n->len, jump, sizeof(jump));
	memcpy(slot + n->len + sizeof(jump), &leave, sizeof(leave));
	for (unsigned i = 0; i < n->len; i++) {
		hash = (hash ^ n->code[i]) * 16777619;
	}
	at = (size_t)(hash >> 12) % SOFT_NATIVE_SLOTS * SLOT_BYTES;
	if (memcmp(native->write + at, slot, sizeof(slot)) != 0) {
		memcpy(native->write + at, slot, sizeof(slot));
		*fresh = 1;
	}
	return native->execute + at;
}

_Static_assert(sizeof(((struct insn_native *)NULL)->code) + 6 + 8 <= SLOT_BYTES, "fits");

/* ---- a run ---- */

void soft_native_restorable(struct soft_vcpu *vcpu)
{
	uint8_t *area = vcpu->kvm->xsave;

	store_le32(area + AT_MXCSR, load_le32(area + AT_MXCSR) & vcpu->native.mxcsr);
	store_le64(area + KVM_AT_XSTATE_BV,
		   load_le64(area + KVM_AT_XSTATE_BV) & vcpu->kvm->env->backend->xcr0);
	memset(area + KVM_AT_XSTATE_BV + 8, 0, AT_HEADER_END - KVM_AT_XSTATE_BV - 8);
}

/* The last x87 instruction: where the guest has it, not where it was executed here. */
static void set_place(uint8_t *area, const struct insn_native *n, uint64_t fdp)
{
	store_le16(area + AT_FOP, n->fop);
	store_le64(area + AT_FIP, n->fip);
	store_le64(area + AT_FDP, n->base == INSN_NO_REG ? fdp : n->fdp);
	area[KVM_AT_XSTATE_BV] |= 1;
}

/* The host's CPU may not have saved it. @was: the area, up to MXCSR, as it was loaded. */
static void keep_place(uint8_t *area, const uint8_t *was)
{
	if (load_le64(was + AT_FIP) != 0 || load_le64(was + AT_FDP) != 0) {
		memcpy(area + AT_FOP, was + AT_FOP, AT_MXCSR - AT_FOP);
		area[KVM_AT_XSTATE_BV] |= 1;
	}
}

static enum insn_outcome outcome_of(struct soft_vcpu *vcpu, const struct run *run)
{
	switch (run->vector) {
	case INSN_EXC_MF:
	case INSN_EXC_XM:
	case INSN_EXC_UD:
	case INSN_EXC_GP:
		return insn_raise(&vcpu->env, (enum insn_vector)run->vector, 0);
	default:
		return INSN_UNSUPPORTED; /* not what it was said to be */
	}
}

enum insn_outcome soft_native_run(struct soft_vcpu *vcpu, struct insn_native *n)
{
	const struct kvm_backend *backend = vcpu->kvm->env->backend;
	uint8_t *area = vcpu->kvm->xsave;
	struct run run = {
		.area = area,
		.mask = soft_native_mask(backend->xcr0),
		.rflags = n->rflags & FLAGS_ARITH,
		.avx = backend->xcr0 & 4,
	};
	uint8_t was[AT_MXCSR] = {0};
	int r;

	if ((area[KVM_AT_XSTATE_BV] & 1) != 0) {
		memcpy(was, area, sizeof(was));
	}

	memcpy(run.gpr, n->gpr, sizeof(run.gpr));
	if (n->base != INSN_NO_REG) {
		run.gpr[n->base] = (uintptr_t)n->memory;
	}
	soft_native_restorable(vcpu);
	running = &run;
	running_slot = slot_of(&vcpu->native, n, &run.fresh);
	/* Pairs with the handler, on this thread. */
	atomic_signal_fence(memory_order_seq_cst);
	r = soft_native_enter(&run, running_slot);
	atomic_signal_fence(memory_order_seq_cst);
	running = NULL;
	if (r != 0) {
		return INSN_UNSUPPORTED;
	}
	if (run.trapped) {
		return outcome_of(vcpu, &run);
	}
	if (n->x87_place) {
		set_place(area, n, load_le64(was + AT_FDP));
	} else if (!n->x87_loads) {
		keep_place(area, was);
	}
	memcpy(n->gpr, run.gpr, sizeof(run.gpr));
	n->rflags = run.rflags & FLAGS_ARITH;
	return INSN_DONE;
}

bool soft_native_trap(void *context)
{
	greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
	uintptr_t at = (uintptr_t)gregs[REG_RIP];

	if (running == NULL) {
		return false;
	}
	if (at == (uintptr_t)soft_native_restore) {
		gregs[REG_RIP] = (greg_t)(uintptr_t)soft_native_bad;
		return true;
	}
	if (at != (uintptr_t)running_slot) {
		return false;
	}
	running->vector = (uint64_t)gregs[REG_TRAPNO];
	running->trapped = true;
	gregs[REG_RIP] = (greg_t)(uintptr_t)soft_native_leave;
	return true;
}
