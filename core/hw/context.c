/*
 * Spec: AMD APM vol. 1, 6.4 "XMM and x87 State Management"; vol. 2, 11.5 "XSAVE/XRSTOR
 * Instructions"
 */
#include "core/hw/context.h"

#include <errno.h>
#include <string.h>

#include "core/hw/asm.h"
#include "core/hw/cpu.h"
#include "core/hw/entry.h"
#include "core/hw/regs.h"
#include "core/mem/heap.h"
#include "lib/base/bytes.h"
#include "lib/x86/cpuid.h"

/* In an area: the legacy region, then the header, then the other components. */
#define FCW_OFFSET	   0
#define MXCSR_OFFSET	   24
#define MXCSR_MASK_OFFSET  28
#define LEGACY_BYTES	   512
#define XSTATE_BV_OFFSET   512
#define HEADER_BYTES	   64
#define FCW_INITIAL	   0x37f
#define MXCSR_INITIAL	   0x1f80
#define MXCSR_MASK_DEFAULT 0xffbf

static struct {
	/* Constant after start-up. */
	size_t bytes;
	uint32_t mxcsr_mask;
	_Alignas(64) uint8_t initial[LEGACY_BYTES + HEADER_BYTES];
} fpu;

extern void context_begin(void); /* context.S */

void context_init(struct context *c, uint64_t stack_top, void (*fn)(void *arg), void *arg)
{
	uint64_t *sp = (uint64_t *)user_frame(stack_top);

	*--sp = 0; /* where a return address would be, and backtraces end */
	*--sp = (uint64_t)context_begin;
	*--sp = 0;	       /* rbp */
	*--sp = (uint64_t)fn;  /* rbx */
	*--sp = (uint64_t)arg; /* r12 */
	*--sp = 0;	       /* r13 */
	*--sp = 0;	       /* r14 */
	*--sp = 0;	       /* r15 */
	c->rsp = (uint64_t)sp;
}

void context_call_aligned(void (*fn)(void *arg), void *arg); /* context.S */

void context_call_foreign(void (*fn)(void *arg), void *arg)
{
	/* A canary that guards against accidents only; what it calls is trusted with all else. */
	static uint64_t thread_block[8] = {[5] = UINT64_C(0x5afe0ff5afe0ff00)};

	asm_wrmsr(MSR_FS_BASE, (uint64_t)thread_block);
	context_call_aligned(fn, arg);
	asm_wrmsr(MSR_FS_BASE, 0);
}

void fpu_init(void)
{
	uint32_t mask;

	fpu.bytes = LEGACY_BYTES + HEADER_BYTES;
	if (cpu_features()->xsave) {
		/* EBX: for what XCR0 has enabled at this moment, and that is all there will be. */
		fpu.bytes = MAX(fpu.bytes, asm_cpuid(CPUID_XSAVE, 0).ebx);
	}
	asm_fxsave(fpu.initial);
	mask = load_le32(fpu.initial + MXCSR_MASK_OFFSET);
	fpu.mxcsr_mask = mask != 0 ? mask : MXCSR_MASK_DEFAULT;
	memset(fpu.initial, 0, sizeof(fpu.initial));
	store_le16(fpu.initial + FCW_OFFSET, FCW_INITIAL);
	store_le32(fpu.initial + MXCSR_OFFSET, MXCSR_INITIAL);
	fpu_start_cpu();
}

void fpu_start_cpu(void)
{
	fpu_load(fpu.initial, cpu_features()->xcr0);
}

size_t fpu_area_bytes(void)
{
	return fpu.bytes;
}

void fpu_init_area(void *area)
{
	memset(area, 0, fpu.bytes);
	memcpy(area, fpu.initial, sizeof(fpu.initial));
}

void fpu_save(void *area, uint64_t mask)
{
	if (cpu_features()->xsaveopt) {
		asm_xsaveopt(area, mask);
	} else if (cpu_features()->xsave) {
		asm_xsave(area, mask);
	} else {
		asm_fxsave(area);
	}
}

void fpu_load(const void *area, uint64_t mask)
{
	if (cpu_features()->xsave) {
		asm_xrstor(area, mask);
	} else {
		asm_fxrstor(area);
	}
}

bool fpu_area_is_valid(const void *area, uint64_t mask)
{
	const uint8_t *p = area;

	if ((load_le32(p + MXCSR_OFFSET) & ~fpu.mxcsr_mask) != 0) {
		return false;
	}
	if (!cpu_features()->xsave) {
		return true;
	}
	if ((load_le64(p + XSTATE_BV_OFFSET) & ~mask) != 0) {
		return false;
	}
	/* XCOMP_BV and all behind it in the header: this is the standard form. */
	for (size_t i = 8; i < HEADER_BYTES; i += 8) {
		if (load_le64(p + XSTATE_BV_OFFSET + i) != 0) {
			return false;
		}
	}
	return true;
}

/* Pages begin 64-aligned, small objects of 1008 or 2016 bytes do not. */
static size_t area_alloc_bytes(void)
{
	return fpu.bytes + 48 + 16;
}

int user_state_init(struct user_state *s)
{
	*s = (struct user_state){0};
	s->memory = mem_alloc(area_alloc_bytes());
	if (s->memory == NULL) {
		return -ENOMEM;
	}
	s->xsave = (void *)ALIGN_UP((uint64_t)s->memory, 64);
	fpu_init_area(s->xsave);
	return 0;
}

void user_state_fini(struct user_state *s)
{
	mem_free(s->memory, area_alloc_bytes());
	*s = (struct user_state){0};
}

/* GS_BASE is the kernel's own while it runs; ring 3's waits in KERNEL_GS_BASE for SWAPGS. Programs
 * change both by system calls only (CR4.FSGSBASE is off), so user_state has them always. */
static void load_bases(const struct user_state *s)
{
	asm_wrmsr(MSR_FS_BASE, s->fs_base);
	asm_wrmsr(MSR_KERNEL_GS_BASE, s->gs_base);
}

void user_state_save(struct user_state *s)
{
	fpu_save(s->xsave, cpu_features()->xcr0);
}

void user_state_load(const struct user_state *s)
{
	uint64_t flags = asm_irq_save();

	load_bases(s);
	fpu_load(s->xsave, cpu_features()->xcr0);
	asm_irq_restore(flags);
}

void user_state_copy(struct user_state *to, struct user_state *from)
{
	uint64_t flags = asm_irq_save();

	user_state_save(from);
	asm_irq_restore(flags);
	memcpy(to->xsave, from->xsave, fpu.bytes);
	to->fs_base = from->fs_base;
	to->gs_base = from->gs_base;
}

void user_state_switch(struct user_state *from, struct user_state *to)
{
	if (from != NULL) {
		user_state_save(from);
	}
	if (to != NULL) {
		load_bases(to);
		fpu_load(to->xsave, cpu_features()->xcr0);
	}
}
