#include "tests/soft/arena.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "lib/base/bytes.h"
#include "lib/x86/regs.h"
#include "soft/engine.h"
#include "soft/native.h"
#include "soft/soft.h"
#include "tests/unit.h"

#define GDT	   0x1000
#define TSS	   0x1800
#define IDT	   0x2000
#define TABLES	   0x4000 /* PML4, PDPT, PD, PT */
#define FRAME_TOP  (ARENA_FRAME + 4096)
#define DEVICE_GPA UINT64_C(0xd0000000)
#define CPUID_MAX  256
#define EXITS_MAX  200
#define TICKS_MAX  3
#define TICK_MS	   100 /* of processor time */

#define PTE_PRESENT  BIT(0)
#define PTE_WRITE    BIT(1)
#define PTE_USER     BIT(2)
#define PTE_SEEN     (BIT(5) | BIT(6)) /* accessed, dirty: nothing writes to the tables */
#define PTE_KEY	     59
#define PTE_READABLE (PTE_PRESENT | PTE_USER | PTE_SEEN)

#define FSW_ES BIT(7)

#define AT_BV  512
#define AT_YMM 576
#define AVX    BIT(2)

#define CALL(a_fd, request, argument) soft_ioctl((a_fd), (request), (uintptr_t)(argument))

#define must(call)                                                  \
	do {                                                        \
		if ((call) < 0) {                                   \
			fail_msg("%s: %s", #call, strerror(errno)); \
		}                                                   \
	} while (0)

bool arena_has_keys(void)
{
	return soft_native_pkru_at() != 0;
}

bool arena_has_avx(void)
{
	return __builtin_cpu_supports("avx") != 0;
}

/* ---- memory ---- */

static void gate(uint8_t *ram, unsigned vector)
{
	uint64_t handler = ARENA_HALTS + vector;
	uint8_t *g = ram + IDT + (size_t)16 * vector;

	store_le16(g, (uint16_t)handler);
	store_le16(g + 2, 0x08);
	g[4] = 1;    /* IST1 */
	g[5] = 0xee; /* present, DPL 3, interrupt gate */
	store_le16(g + 6, (uint16_t)(handler >> 16));
}

static uint64_t page_entry(unsigned page)
{
	uint64_t linear = page * UINT64_C(4096), key = 0;

	if (linear >= ARENA_DATA && linear < ARENA_DATA + UINT64_C(2) * 4096) {
		key = 1 + (linear - ARENA_DATA) / 4096;
	} else if (linear == ARENA_MORE) {
		key = 3;
	}

	if (linear == ARENA_DEVICE) {
		return DEVICE_GPA | PTE_READABLE | PTE_WRITE;
	}
	if (linear < ARENA_FRAME || linear == ARENA_FIXED) {
		return linear | PTE_READABLE;
	}
	if (linear == ARENA_FRAME || linear == ARENA_COUNTER || linear == ARENA_MORE ||
	    (linear >= ARENA_CODE && linear < ARENA_CODE + ARENA_CODE_BYTES) ||
	    (linear >= ARENA_DATA && linear < ARENA_DATA + UINT64_C(2) * 4096)) {
		return linear | key << PTE_KEY | PTE_READABLE | PTE_WRITE;
	}
	return 0;
}

void arena_template(uint8_t *ram)
{
	static const uint64_t gdt[] = {
		0,
		0x00af9b000000ffff,
		0x00cf93000000ffff,
		0x00cffb000000ffff,
		0x00cff3000000ffff,
		0x00affb000000ffff,
	};

	memset(ram, 0, ARENA_RAM);
	memcpy(ram + GDT, gdt, sizeof(gdt));
	store_le64(ram + TSS + 0x24, FRAME_TOP); /* IST1 */
	store_le16(ram + TSS + 0x66, 0x68);	 /* no permission for ports */
	memset(ram + ARENA_HALTS, 0xf4, 256);
	for (unsigned i = 0; i < 256; i++) {
		gate(ram, i);
	}
	for (unsigned level = 0; level < 3; level++) {
		store_le64(ram + TABLES + (size_t)4096 * level,
			   (TABLES + UINT64_C(4096) * (level + 1)) | PTE_READABLE | PTE_WRITE);
	}
	for (unsigned i = 0; i < ARENA_PAGES; i++) {
		store_le64(ram + TABLES + 3 * 4096 + (size_t)8 * i, page_entry(i));
	}
}

/* ---- the machine ---- */

static void set_cpuid(struct arena *a)
{
	static union {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 room[1 + CPUID_MAX];
	} all;

	memset(&all, 0, sizeof(all));
	all.head.nent = CPUID_MAX;
	must(CALL(a->kvm_fd, KVM_GET_SUPPORTED_CPUID, &all));
	must(CALL(a->fd, KVM_SET_CPUID2, &all));
}

static void set_slot(struct arena *a, uint64_t bytes)
{
	struct kvm_userspace_memory_region slot = {.memory_size = bytes,
						   .userspace_addr = (uintptr_t)a->ram};

	must(CALL(a->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot));
}

void arena_forget(struct arena *a)
{
	set_slot(a, 0);
	set_slot(a, ARENA_RAM);
}

bool arena_init(struct arena *a, const char *engine)
{
	uint64_t xcr0 = (arena_has_avx() ? 7 : 3) | (arena_has_keys() ? XCR0_PKRU : 0);
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = xcr0}}};

	*a = (struct arena){0};
	if (soft_engine_choose(engine) != 0) {
		return false;
	}
	a->ram = mmap(NULL, ARENA_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(a->ram, MAP_FAILED);
	a->kvm_fd = soft_open();
	must(a->kvm_fd);
	a->vm_fd = CALL(a->kvm_fd, KVM_CREATE_VM, 0);
	must(a->vm_fd);
	set_slot(a, ARENA_RAM);
	a->fd = CALL(a->vm_fd, KVM_CREATE_VCPU, 0);
	must(a->fd);
	a->run_bytes = (size_t)CALL(a->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	a->run = soft_mmap(a->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	assert_ptr_not_equal(a->run, MAP_FAILED);
	set_cpuid(a);
	must(CALL(a->fd, KVM_SET_XCRS, &xcrs));
	return true;
}

void arena_fini(struct arena *a)
{
	munmap(a->run, a->run_bytes);
	soft_close(a->fd);
	soft_close(a->vm_fd);
	soft_close(a->kvm_fd);
	munmap(a->ram, ARENA_RAM);
}

static void set_sregs(struct arena *a, enum arena_mode mode)
{
	struct kvm_segment data = {.limit = 0xffffffff,
				   .type = 3,
				   .present = 1,
				   .s = 1,
				   .db = 1,
				   .g = 1,
				   .selector = mode == ARENA_KERNEL ? 0x10 : 0x23,
				   .dpl = mode == ARENA_KERNEL ? 0 : 3};
	struct kvm_segment code = data;
	struct kvm_sregs s;

	code.type = 11;
	code.selector = mode == ARENA_KERNEL ? 0x08 : mode == ARENA_USER ? 0x2b : 0x1b;
	code.l = mode != ARENA_COMPAT;
	code.db = mode == ARENA_COMPAT;
	must(CALL(a->fd, KVM_GET_SREGS, &s));
	s.cs = code;
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.fs.base = ARENA_FS;
	s.gs.base = ARENA_GS;
	s.tr = (struct kvm_segment){
		.base = TSS, .limit = 0x67, .type = 11, .present = 1, .selector = 0x30};
	s.gdt = (struct kvm_dtable){.base = GDT, .limit = 6 * 8 - 1};
	s.idt = (struct kvm_dtable){.base = IDT, .limit = 4095};
	s.cr0 = 0x80010033;
	s.cr2 = 0;
	s.cr3 = TABLES;
	s.cr4 = 0x10620 | BIT(18); /* FSGSBASE, OSXMMEXCPT, OSFXSR, PAE; OSXSAVE */
	s.cr4 |= arena_has_keys() ? CR4_PKE : 0;
	s.efer = 0xd00; /* NXE, LMA, LME */
	must(CALL(a->fd, KVM_SET_SREGS, &s));
}

static void set_state(struct arena *a, const struct arena_start *start)
{
	struct kvm_debugregs debugregs = {.dr6 = 0xffff0ff0, .dr7 = 0x400};
	struct kvm_vcpu_events events = {0};

	memcpy(a->ram, start->ram, ARENA_RAM);
	must(CALL(a->fd, KVM_SET_VCPU_EVENTS, &events));
	must(CALL(a->fd, KVM_SET_DEBUGREGS, &debugregs));
	set_sregs(a, start->mode);
	must(CALL(a->fd, KVM_SET_REGS, &start->regs));
	must(CALL(a->fd, KVM_SET_XSAVE, start->xsave));
}

static void get_state(struct arena *a, struct arena_end *end)
{
	static struct kvm_xsave xsave;
	const uint8_t *area = (const uint8_t *)&xsave;

	must(CALL(a->fd, KVM_GET_REGS, &end->regs));
	must(CALL(a->fd, KVM_GET_SREGS, &end->sregs));
	must(CALL(a->fd, KVM_GET_FPU, &end->fpu));
	must(CALL(a->fd, KVM_GET_DEBUGREGS, &end->debugregs));
	must(CALL(a->fd, KVM_GET_VCPU_EVENTS, &end->events));
	must(CALL(a->fd, KVM_GET_XSAVE, &xsave));
	if (end->events.exception.injected == 0 && end->events.exception.pending == 0) {
		memset(&end->events.exception, 0, sizeof(end->events.exception));
	}
	/* Where the last x87 instruction was, CPUs of AMD's keep for exceptions that wait. */
	if ((end->fpu.fsw & FSW_ES) == 0) {
		end->fpu.last_opcode = 0;
		end->fpu.last_ip = end->fpu.last_dp = 0;
	}
	memset(end->ymm_high, 0, sizeof(end->ymm_high));
	if ((load_le64(area + AT_BV) & AVX) != 0) {
		memcpy(end->ymm_high, area + AT_YMM, sizeof(end->ymm_high));
	}
	end->pkru = 0;
	if ((load_le64(area + AT_BV) & XCR0_PKRU) != 0) {
		end->pkru = load_le32(area + soft_native_pkru_at());
	}
}

/* ---- a run ---- */

static uint64_t mixed(uint64_t digest, uint64_t value)
{
	digest = (digest ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return digest ^ digest >> 29;
}

/* The device holds what was not written to it. */
static void serve_device(struct kvm_run *run, struct arena_end *end)
{
	uint64_t value = 0;

	end->devices = mixed(end->devices,
			     run->mmio.phys_addr << 8 | run->mmio.len << 1 | run->mmio.is_write);
	if (run->mmio.is_write != 0) {
		memcpy(&value, run->mmio.data, run->mmio.len);
		end->devices = mixed(end->devices, value);
		return;
	}
	value = mixed(0x1234, run->mmio.phys_addr);
	memcpy(run->mmio.data, &value, sizeof(value));
}

/* A tick ends KVM_RUN, should the program not. */
static void set_ticks(unsigned ms)
{
	struct itimerval timer = {.it_interval = {.tv_usec = ms * 1000},
				  .it_value = {.tv_usec = ms * 1000}};

	must(setitimer(ITIMER_PROF, &timer, NULL));
}

bool arena_run(struct arena *a, const struct arena_start *start, struct arena_end *end)
{
	unsigned ticks = 0;

	memset(end, 0, sizeof(*end));
	set_state(a, start);
	set_ticks(TICK_MS);
	for (;;) {
		int result = CALL(a->fd, KVM_RUN, 0);

		end->result = result < 0 ? -errno : (int)a->run->exit_reason;
		if (end->result == -EINTR && ++ticks < TICKS_MAX) {
			continue;
		}
		if (end->result != KVM_EXIT_MMIO || ++end->exits == EXITS_MAX) {
			break;
		}
		serve_device(a->run, end);
	}
	set_ticks(0);
	get_state(a, end);
	return end->result != -EINTR && end->exits != EXITS_MAX;
}
