/* Paging: what a page fault leaves, what is restarted after it, reserved bits, A and D. */
#include "tests/guest/bare/snippet.h"

#define VA   (UINT64_C(1) << 40)
#define EDGE (VA + 4096) /* between two pages, of which only the first is there */
#define ALL  (PTE_P | PTE_W | PTE_U)

static uint64_t map_at(uint64_t va, uint64_t flags)
{
	uint64_t page = bare_page();

	bare_map(va, page, 1, flags);
	invlpg(va);
	return page;
}

static void check_fault(const struct bare_trap *trap, const char *rip, uint64_t error, uint64_t cr2)
{
	check(trap->happened);
	check_eq(trap->vector, VECTOR_PF);
	check_eq(trap->error, error);
	check_eq(trap->cr2, cr2);
	check_eq(trap->rip, rip);
}

/* ---- CR2 and partial work ---- */

LABEL(read8_at);
LABEL(write8_at);
SNIPPET(read8, "read8_at: mov (%rdi), %rax");
SNIPPET(write8, "mov $-1, %rax; write8_at: mov %rax, (%rdi)");

BARE_CASE(cr2_of_crossing, "paging/cr2_of_crossing",
	  "Intel SDM vol. 3A, 4.7; AMD APM vol. 2, 8.2.15")
{
	struct bare_trap trap;

	map_at(VA, ALL);
	for (uint64_t back = 1; back < 8; back++) {
		bare_try(&trap, read8, (void *)(EDGE - back));
		check_fault(&trap, read8_at, 0, EDGE);
		bare_try(&trap, write8, (void *)(EDGE - back));
		check_fault(&trap, write8_at, PF_W, EDGE);
	}
	/* The first page missing: the first byte of the access. */
	map_at(EDGE, ALL);
	bare_map(VA, 0, 1, 0);
	invlpg(VA);
	bare_try(&trap, read8, (void *)(EDGE - 3));
	check_fault(&trap, read8_at, 0, EDGE - 3);
}

BARE_CASE(crossing_write_is_whole, "paging/crossing_write_is_whole", "AMD APM vol. 2, 8.1.3")
{
	uint64_t page = map_at(VA, ALL);
	struct bare_trap trap;

	for (uint64_t back = 1; back < 8; back++) {
		bare_try(&trap, write8, (void *)(EDGE - back));
		check(trap.happened);
		check_eq(*(volatile uint64_t *)(page + 4088), 0);
	}
	/* The same where the second page may only be read. */
	map_at(EDGE, PTE_P);
	bare_try(&trap, write8, (void *)(EDGE - 4));
	check_fault(&trap, write8_at, PF_P | PF_W, EDGE);
	check_eq(*(volatile uint64_t *)(page + 4088), 0);
}

static uint64_t kept[4];
LABEL(push_at);
LABEL(pop_at);
SNIPPET(push_there, "mov %rsp, %rdx; mov %rdi, %rsp; push_at: push %rax; mov %rdx, %rsp");
SNIPPET(pop_there, "pushq $1; mov %rsp, %rdx; pop_at: popq (%rdi); mov %rdx, %rsp; pop %rax");

static void pages_in(struct bare_frame *frame)
{
	uint64_t cr2 = read_cr2();

	kept[0] = frame->rip;
	kept[1] = frame->rsp;
	kept[2] = cr2;
	kept[3]++;
	map_at(cr2 & ~UINT64_C(4095), ALL);
}

BARE_CASE(stack_pointer_kept, "paging/stack_pointer_kept", "AMD APM vol. 2, 8.1.3")
{
	uint64_t far = VA + 0x100000;

	/* The fault itself needs a stack: IST 1 is there. */
	bare_idt[VECTOR_PF].ist = 1;
	bare_on(VECTOR_PF, pages_in);
	push_there((void *)far);
	check_eq(kept[0], push_at);
	check_eq(kept[1], far);
	check_eq(kept[2], far - 8);
	pop_there((void *)(far + 0x10000));
	check_eq(kept[0], pop_at);
	check_eq(kept[2], far + 0x10000);
	check_eq(*(volatile uint64_t *)(far + 0x10000), 1);
	check_eq(kept[3], 2);
}

/* ---- restart ---- */

struct string_regs {
	uint64_t rdi, rsi, rcx, rax, rflags;
};

static struct string_regs faulted;
static uint32_t faults;

static void string_fault(struct bare_frame *frame)
{
	faulted =
		(struct string_regs){frame->rdi, frame->rsi, frame->rcx, frame->rax, frame->rflags};
	faults++;
	map_at(read_cr2() & ~UINT64_C(4095), ALL);
}

BARE_CASE(rep_movs_restarts, "paging/rep_movs_restarts",
	  "AMD APM vol. 3, 1.2.6, REP; vol. 2, 8.1.3")
{
	volatile uint8_t *from = (volatile uint8_t *)bare_pages(2);
	uint64_t rdi = EDGE - 100, rsi = (uint64_t)from, rcx = 300;

	for (unsigned int i = 0; i < 300; i++) {
		from[i] = (uint8_t)(i * 7);
	}
	map_at(VA, ALL);
	bare_on(VECTOR_PF, string_fault);
	__asm__ volatile("rep movsb" : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory");
	check_eq(faults, 1);
	check_eq(faulted.rcx, 200);
	check_eq(faulted.rdi, EDGE);
	check_eq(faulted.rsi, (uint64_t)from + 100);
	check_eq(rcx, 0);
	check_eq(rdi, EDGE + 200);
	for (unsigned int i = 0; i < 300; i++) {
		check_eq(((volatile uint8_t *)(EDGE - 100))[i], (uint8_t)(i * 7));
	}
}

BARE_CASE(rep_stos_down_restarts, "paging/rep_stos_down_restarts", "AMD APM vol. 3, 1.2.6, REP")
{
	uint64_t rdi = EDGE + 32, rcx = 10;

	map_at(EDGE, ALL);
	bare_on(VECTOR_PF, string_fault);
	__asm__ volatile("std; rep stosq; cld" : "+D"(rdi), "+c"(rcx) : "a"(0x77) : "memory");
	check_eq(faults, 1);
	check_eq(faulted.rcx, 5);
	check_eq(faulted.rdi, EDGE - 8);
	check_eq(faulted.rflags & RFLAGS_DF, RFLAGS_DF);
	check_eq(rdi, EDGE - 48);
	check_eq(*(volatile uint64_t *)(EDGE - 40), 0x77);
	check_eq(*(volatile uint64_t *)(EDGE - 48), 0);
}

BARE_CASE(repe_cmps_restarts, "paging/repe_cmps_restarts", "AMD APM vol. 3, 1.2.6, REPE")
{
	volatile uint8_t *a = (volatile uint8_t *)bare_pages(2);
	uint64_t rdi = EDGE - 10, rsi = (uint64_t)a, rcx = 30;
	uint8_t below;

	map_at(VA, ALL);
	a[25] = 1; /* the first to differ: the fresh page is 0 */
	bare_on(VECTOR_PF, string_fault);
	__asm__ volatile("repe cmpsb; seta %3"
			 : "+D"(rdi), "+S"(rsi), "+c"(rcx), "=r"(below)
			 :
			 : "memory", "cc");
	check_eq(faults, 1);
	check_eq(faulted.rcx, 20);
	check_eq(rcx, 4);
	check_eq(rdi, EDGE + 16);
	check_eq(below, 1);
}

/* ---- what kind of access ---- */

SNIPPET(inc_there, "incb (%rdi)");
SNIPPET(xchg_there, "mov $9, %eax; xchg %eax, (%rdi)");
SNIPPET(cmpxchg_there, "mov $9, %eax; mov $8, %ecx; lock cmpxchg %ecx, (%rdi)");
SNIPPET(cmpxchg16b_there,
	"mov $9, %eax; xor %edx, %edx; push %rbx; lock cmpxchg16b (%rdi); pop %rbx");
SNIPPET(bts_there, "lock btsl $3, (%rdi)");
SNIPPET(xadd_there, "mov $0, %eax; xadd %eax, (%rdi)");
SNIPPET(bt_there, "btl $3, (%rdi)");
SNIPPET(test_there, "testl $3, (%rdi)");
SNIPPET(prefetch_there, "prefetcht0 (%rdi)");

static void check_writes(void (*function)(void *))
{
	struct bare_trap trap;

	bare_try(&trap, function, (void *)VA);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_PF);
	check_eq(trap.error, PF_P | PF_W);
	check_eq(trap.cr2, VA);
}

BARE_CASE(read_modify_write_is_write, "paging/read_modify_write_is_write",
	  "Intel SDM vol. 3A, 4.7; AMD APM vol. 2, 8.2.15")
{
	struct bare_trap trap;

	map_at(VA, PTE_P);
	check_writes(inc_there);
	check_writes(xchg_there);
	check_writes(bts_there);
	check_writes(xadd_there);
	bare_try(&trap, bt_there, (void *)VA);
	check(!trap.happened);
	bare_try(&trap, test_there, (void *)VA);
	check(!trap.happened);
	bare_map(VA, 0, 1, 0);
	invlpg(VA);
	bare_try(&trap, inc_there, (void *)VA);
	check(trap.happened);
	if (trap.error == 0) {
		bare_excuse("QEMU's TCG takes the read of a read-modify-write for a read");
	}
	check_eq(trap.error, PF_W);
}

BARE_CASE(failed_cmpxchg_is_write, "paging/failed_cmpxchg_is_write", "AMD APM vol. 3, CMPXCHG")
{
	map_at(VA, PTE_P);
	check_writes(cmpxchg_there);
	check_writes(cmpxchg16b_there);
}

BARE_CASE(prefetch_does_not_fault, "paging/prefetch_does_not_fault",
	  "AMD APM vol. 3, PREFETCHlevel")
{
	struct bare_trap trap;

	bare_try(&trap, prefetch_there, (void *)VA);
	check(!trap.happened);
	bare_try(&trap, prefetch_there, (void *)(UINT64_C(1) << 60));
	check(!trap.happened);
}

/* ---- addresses that are none ---- */

#define HOLE_FIRST UINT64_C(0x0000800000000000)
#define HOLE_LAST  UINT64_C(0xffff7fffffffffff)

LABEL(jump_at);
LABEL(stack_read_at);
SNIPPET(jump_there, "jump_at: jmp *%rdi");
SNIPPET(stack_read, "push %rbp; mov %rdi, %rbp; stack_read_at: mov (%rbp), %rax; pop %rbp");

static void check_gp(void (*function)(void *), const char *at, uint64_t address)
{
	struct bare_trap trap;

	bare_try(&trap, function, (void *)address);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
	check_eq(trap.error, 0);
	check_eq(trap.rip, at);
}

BARE_CASE(noncanonical, "paging/noncanonical", "AMD APM vol. 2, 5.3.1; 8.2.14")
{
	static const uint64_t addresses[] = {HOLE_FIRST, HOLE_LAST - 7, UINT64_C(1) << 60,
					     UINT64_C(0x7fff000000000000),
					     UINT64_C(0x8000000000000000)};

	if ((read_cr4() & CR4_LA57) != 0) {
		bare_skip("five levels are on");
	}
	write_cr2(0x1234);
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		check_gp(read8, read8_at, addresses[i]);
		check_gp(write8, write8_at, addresses[i]);
	}
	check_eq(read_cr2(), 0x1234);
	/* The canonical ones beside them are not present. */
	check_eq(access_try(ACCESS_READ, false, HOLE_FIRST - 1), 0);
	check_eq(access_try(ACCESS_READ, false, HOLE_LAST + 1), 0);
}

BARE_CASE(noncanonical_crossing, "paging/noncanonical_crossing", "AMD APM vol. 2, 5.3.1")
{
	map_at(HOLE_FIRST - 4096, ALL);
	check_gp(read8, read8_at, HOLE_FIRST - 7);
	check_gp(write8, write8_at, HOLE_FIRST - 1);
	check_eq(access_try(ACCESS_WRITE, false, HOLE_FIRST - 1), NO_FAULT);
}

BARE_CASE(noncanonical_jump, "paging/noncanonical_jump",
	  "AMD APM vol. 3, JMP (Near); vol. 2, 8.2.14")
{
	struct bare_trap trap;

	bare_try(&trap, jump_there, (void *)HOLE_FIRST);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
	check_eq(trap.error, 0);
	/* Intel's processors fault at the jump, AMD's after it. */
	check(trap.rip == (uint64_t)jump_at || trap.rip == HOLE_FIRST);
}

BARE_CASE(noncanonical_stack, "paging/noncanonical_stack", "AMD APM vol. 2, 8.2.13")
{
	struct bare_trap trap;

	bare_try(&trap, stack_read, (void *)HOLE_FIRST);
	check(trap.happened);
	if (trap.vector == VECTOR_GP) {
		bare_excuse("QEMU's TCG raises #GP for the stack, too");
	}
	check_eq(trap.vector, VECTOR_SS);
	check_eq(trap.error, 0);
	check_eq(trap.rip, stack_read_at);
}

/* ---- reserved bits ---- */

/* P of the error code is another case's: not to be forgotten, but what is reserved is told by RSVD.
 */
static void check_reserved(unsigned int level, uint64_t bit)
{
	uint64_t *entry = bare_pte(VA, level), was = *entry;

	*entry |= bit;
	invlpg(VA);
	check_eq(access_try(ACCESS_READ, false, VA + 9) & ~(uint64_t)PF_P, PF_RSVD);
	check_eq(access_try(ACCESS_WRITE, true, VA + 9) & ~(uint64_t)PF_P, PF_RSVD | PF_W | PF_U);
	/* Not present: the others do not matter. */
	*entry &= ~PTE_P;
	invlpg(VA);
	check_eq(access_try(ACCESS_READ, false, VA + 9), 0);
	*entry = was;
	invlpg(VA);
	check_eq(access_try(ACCESS_READ, false, VA + 9), NO_FAULT);
}

BARE_CASE(reserved_is_present, "paging/reserved_is_present",
	  "AMD APM vol. 2, 8.4.2; Intel SDM vol. 3A, 4.7")
{
	uint64_t error;

	map_at(VA, ALL);
	*bare_pte(VA, 4) |= PTE_PS;
	invlpg(VA);
	error = access_try(ACCESS_READ, false, VA);
	if (error == PF_RSVD) {
		bare_excuse("QEMU's TCG forgets P in the error code of reserved bits");
	}
	check_eq(error, PF_P | PF_RSVD);
}

BARE_CASE(reserved_in_pml4e, "paging/reserved_in_pml4e",
	  "AMD APM vol. 2, 5.3.2; Intel SDM vol. 3A, 4.5")
{
	map_at(VA, ALL);
	check_reserved(4, PTE_PS);
}

BARE_CASE(reserved_in_large_pages, "paging/reserved_in_large_pages",
	  "AMD APM vol. 2, 5.3.4; Intel SDM vol. 3A, 4.5")
{
	bare_map(VA, 0x1000000, 2, ALL);
	check_reserved(2, 0x2000);
	check_reserved(2, 0x100000);
}

BARE_CASE(reserved_above_maxphyaddr, "paging/reserved_above_maxphyaddr",
	  "AMD APM vol. 2, 5.3.2; Intel SDM vol. 3A, 4.1.4")
{
	uint32_t bits = bare_physical_bits();

	if (bits >= 52) {
		bare_skip("all address bits of an entry are in use");
	}
	map_at(VA, ALL);
	for (unsigned int level = 1; level <= 4; level++) {
		check_reserved(level, UINT64_C(1) << 51);
		check_reserved(level, UINT64_C(1) << bits);
	}
}

BARE_CASE(ignored_bits, "paging/ignored_bits", "AMD APM vol. 2, 5.4.1")
{
	uint64_t free_bits = UINT64_C(0xe00) | UINT64_C(0x7f) << 52;

	if ((read_cr4() & CR4_PKE) != 0) {
		bare_skip("protection keys are on");
	}
	map_at(VA, ALL);
	for (unsigned int level = 1; level <= 4; level++) {
		*bare_pte(VA, level) |= free_bits;
		invlpg(VA);
		check_eq(access_try(ACCESS_WRITE, true, VA + 9), NO_FAULT);
		check_eq(*bare_pte(VA, level) & free_bits, free_bits);
	}
}

BARE_CASE(cache_bits, "paging/cache_bits", "AMD APM vol. 2, 7.8")
{
	uint64_t page = map_at(VA, ALL);

	for (unsigned int level = 1; level <= 4; level++) {
		*bare_pte(VA, level) |= PTE_PCD | PTE_PWT | (level == 1 ? PTE_PS : 0);
		invlpg(VA);
		*(volatile uint32_t *)(VA + 4) = 0x1000 + level;
		check_eq(*(volatile uint32_t *)(page + 4), 0x1000 + level);
	}
	bare_map(VA + 0x40000000, 0x1000000, 2, ALL | PTE_PCD | PTE_PWT | 0x1000);
	*(volatile uint32_t *)(VA + 0x40000000 + 4) = 77;
	check_eq(*(volatile uint32_t *)(uintptr_t)0x1000004, 77);
	write_cr3(read_cr3() | PTE_PCD | PTE_PWT);
	check_eq(*(volatile uint32_t *)(VA + 4), 0x1004);
}
