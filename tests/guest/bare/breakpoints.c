/* Hardware breakpoints, and what STI and MOV SS hold back. */
#include "tests/guest/bare/snippet.h"

#define DR6_BD UINT64_C(0x2000)
#define DR6_BS UINT64_C(0x4000)
#define DR7_GD UINT64_C(0x2000)

enum watch {
	WATCH_EXECUTE = 0,
	WATCH_WRITE = 1,
	WATCH_ACCESS = 3,
};

static volatile uint32_t hits;
static volatile uint64_t hit_rip, hit_dr6;
static uint64_t watched[4] __attribute__((aligned(32)));

static void on_debug(struct bare_frame *frame)
{
	hits++;
	hit_rip = frame->rip;
	hit_dr6 = read_dr6();
	write_dr6(0xffff0ff0);
	frame->rflags |= RFLAGS_RF;
}

/* Sets DR0 to watch; @bytes: 1, 2, 4 or 8. */
static void watch(const volatile void *at, enum watch type, uint64_t bytes)
{
	static const uint8_t lengths[] = {0, 0, 1, 0, 3, 0, 0, 0, 2};

	bare_on(VECTOR_DB, on_debug);
	hits = 0;
	write_dr6(0xffff0ff0);
	write_dr0((uint64_t)(uintptr_t)at);
	write_dr7(0x403 | (uint64_t)type << 16 | (uint64_t)lengths[bytes] << 18);
}

LABEL(store_next);
SNIPPET(store4, "movl $1, (%rdi); store_next: nop");
SNIPPET(load4, "mov (%rdi), %eax; nop");
SNIPPET(load1, "mov (%rdi), %al; nop");
LABEL(break_at);
SNIPPET(break_here, "xor %eax, %eax; break_at: inc %eax; mov %eax, (%rdi)");

BARE_CASE(write_breakpoint, "exceptions/write_breakpoint", "AMD APM vol. 2, 13.1.2; 13.1.4.2")
{
	watch(watched, WATCH_WRITE, 4);
	load4(watched);
	check_eq(hits, 0);
	store4(watched);
	check_eq(hits, 1);
	check_eq(hit_rip, store_next); /* a trap: the store is done */
	check_eq(watched[0] & 0xffffffff, 1);
	check_eq(hit_dr6 & 0xe00f, 1);
	store4((uint8_t *)watched + 4);
	check_eq(hits, 1);
	store4((uint8_t *)watched + 1);
	check_eq(hits, 2); /* some of its bytes */
	write_dr7(0x400);
	store4(watched);
	check_eq(hits, 2);
}

BARE_CASE(access_breakpoint, "exceptions/access_breakpoint", "AMD APM vol. 2, 13.1.2")
{
	watch(watched, WATCH_ACCESS, 1);
	load4(watched);
	check_eq(hits, 1);
	store4(watched);
	check_eq(hits, 2);
	load1((uint8_t *)watched + 1);
	check_eq(hits, 2);
	watch(watched, WATCH_ACCESS, 8);
	load1((uint8_t *)watched + 7);
	check_eq(hits, 1);
	load4((uint8_t *)watched + 8);
	check_eq(hits, 1);
	write_dr7(0x400);
}

BARE_CASE(execute_breakpoint, "exceptions/execute_breakpoint",
	  "AMD APM vol. 2, 13.1.4.1; 3.1.6, RF")
{
	uint32_t value = 0;

	watch(break_at, WATCH_EXECUTE, 1);
	break_here(&value);
	/* A fault, before it; and with RF the handler lets it pass, once. */
	check_eq(hits, 1);
	check_eq(hit_rip, break_at);
	check_eq(hit_dr6 & 0xe00f, 1);
	check_eq(value, 1);
	break_here(&value);
	check_eq(hits, 2);
	/* A data access there is none of its business. */
	load4((void *)(uintptr_t)break_at);
	check_eq(hits, 2);
	write_dr7(0x400);
}

BARE_CASE(breakpoint_registers, "exceptions/breakpoint_registers", "AMD APM vol. 2, 13.1.1")
{
	watch(&watched[0], WATCH_WRITE, 4);
	write_dr1((uint64_t)&watched[1]);
	write_dr2((uint64_t)&watched[2]);
	write_dr3((uint64_t)&watched[3]);
	write_dr7(0x400 | 0xff | UINT64_C(0xdddd) << 16);
	for (unsigned int i = 0; i < 4; i++) {
		store4(&watched[i]);
		check_eq(hits, i + 1);
		check_eq(hit_dr6 & 15, 1u << i);
	}
	write_dr7(0x400 | 0x08 | UINT64_C(0xdddd) << 16); /* DR1 alone, by G1 */
	store4(&watched[0]);
	check_eq(hits, 4);
	store4(&watched[1]);
	check_eq(hits, 5);
	write_dr7(0x400);
}

LABEL(gd_at);
SNIPPET(read_dr, "gd_at: mov %dr0, %rax");

static void on_general_detect(struct bare_frame *frame)
{
	hits++;
	hit_rip = frame->rip;
	hit_dr6 = read_dr6(); /* GD is off in the handler */
	write_dr7(0x400);
}

BARE_CASE(general_detect, "exceptions/general_detect", "AMD APM vol. 2, 13.1.1.4, GD")
{
	bare_on(VECTOR_DB, on_general_detect);
	write_dr6(0xffff0ff0);
	write_dr7(0x400 | DR7_GD);
	read_dr(NULL);
	if (hits == 0) {
		bare_excuse("QEMU's TCG has no general detect");
	}
	check_eq(hits, 1);
	check_eq(hit_rip, gd_at);
	check_eq(hit_dr6 & DR6_BD, DR6_BD);
}

SNIPPET(do_icebp, ".byte 0xf1");

BARE_CASE(icebp, "exceptions/icebp", "AMD APM vol. 3, INT1")
{
	struct bare_trap trap;

	bare_on(VECTOR_DB, on_debug);
	write_dr6(0xffff0ff0);
	bare_try(&trap, do_icebp, NULL);
	if (trap.happened && trap.vector == VECTOR_UD) {
		bare_excuse("QEMU's TCG has no INT1");
	}
	check(!trap.happened);
	check_eq(hits, 1);
	check_eq(hit_dr6 & 0xe00f, 0);
}

/* ---- interrupt shadow ---- */

#define SELF_VECTOR 0x61

static volatile uint64_t interrupted_at;

static void on_interrupt(struct bare_frame *frame)
{
	interrupted_at = frame->rip;
	hits++;
	apic_eoi();
}

LABEL(sti_after);
SNIPPET(sti_shadow, "sti; nop; sti_after: nop; nop; cli");
SNIPPET(sti_cli, "sti; cli");
LABEL(popf_next);
SNIPPET(popf_if, "pushq $0x202; popfq; popf_next: nop; nop; cli");

static void pend(void)
{
	hits = 0;
	apic_enable();
	bare_on(SELF_VECTOR, on_interrupt);
	apic_send(bare_cpu()->apic_id, 0x4000 | SELF_VECTOR);
	/* In the IRR: it is pending now. */
	while ((apic_read(0x200 + 0x10 * (SELF_VECTOR / 32)) & 1u << (SELF_VECTOR % 32)) == 0) {
		cpu_pause();
	}
}

BARE_CASE(sti_holds_one, "exceptions/sti_holds_one", "AMD APM vol. 3, STI; vol. 2, 8.1.4")
{
	pend();
	sti_shadow(NULL);
	check_eq(hits, 1);
	check_eq(interrupted_at, sti_after);
}

BARE_CASE(sti_cli_holds_all, "exceptions/sti_cli_holds_all", "AMD APM vol. 3, STI")
{
	pend();
	for (unsigned int i = 0; i < 100; i++) {
		sti_cli(NULL);
	}
	check_eq(hits, 0);
	sti_shadow(NULL);
	check_eq(hits, 1);
}

BARE_CASE(popf_holds_none, "exceptions/popf_holds_none", "AMD APM vol. 3, POPF")
{
	pend();
	popf_if(NULL);
	check_eq(hits, 1);
	check_eq(interrupted_at, popf_next);
}

static void load_ss_twice(void)
{
	__asm__ volatile("mov %%ss, %%eax; sti; nop; mov %%eax, %%ss; cli" : : : "eax", "memory");
}

BARE_CASE(interrupt_before_mov_ss, "exceptions/interrupt_before_mov_ss", "AMD APM vol. 2, 8.5.2")
{
	pend();
	load_ss_twice();
	check_eq(hits, 1);
}

LABEL(ss_next);
SNIPPET(mov_ss_with_breakpoint, "mov %ss, %edx; mov %rdi, %rax; mov (%rax), %ss;"
				"ss_next: nop; ss_after2: nop");
LABEL(ss_after2);

BARE_CASE(mov_ss_holds_debug, "exceptions/mov_ss_holds_debug",
	  "AMD APM vol. 2, 8.5.2; Intel SDM vol. 3A, 6.8.3")
{
	static uint64_t selector;

	/* The data breakpoint that the load of SS hits is told after the next instruction. */
	selector = SEL_DATA;
	watch(&selector, WATCH_ACCESS, 2);
	mov_ss_with_breakpoint(&selector);
	write_dr7(0x400);
	check_eq(hits, 1);
	if (hit_rip == (uint64_t)ss_next) {
		bare_excuse("QEMU's TCG holds back no data breakpoints after MOV SS");
	}
	check_eq(hit_rip, ss_after2);
}
