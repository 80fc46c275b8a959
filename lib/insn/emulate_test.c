/*
 * What the host CPU cannot show: how an instruction ends, ops that refuse, ports, system registers,
 * segments, real mode.
 */
#include "lib/insn/emulate.h"

#include <string.h>

#include "lib/insn/test_guest.h"

/* Nothing changes until the answer is there; then all is as if it had been there at once. */
static void test_exit(void **state)
{
	struct insn_cpu before;

	(void)state;
	g.mmio = 0x2000;
	g.cpu.gpr[0] = 5;
	before = g.cpu;
	assert_int_equal(emulate("01 04 25 00200000"), INSN_EXIT); /* add [0x2000], eax */
	assert_memory_equal(&before, &g.cpu, sizeof(before));
	assert_int_equal(g.writes, 0);
	g.mmio_answered = true;
	g.memory[0x2000] = 0xff;
	g.reads = 0;
	assert_int_equal(emulate("01 04 25 00200000"), INSN_DONE);
	assert_int_equal(g.reads, 1);
	assert_int_equal(g.writes, 1);
	assert_int_equal(g.memory[0x2000], 4);
	assert_int_equal(g.memory[0x2001], 1);
	assert_int_equal(g.cpu.rip, 0x1007);
}

static void test_lock(void **state)
{
	(void)state;
	g.memory[0x2000] = 10;
	g.race = true;
	g.cpu.gpr[0] = 1;
	g.cpu.gpr[3] = 0x2000;
	assert_int_equal(emulate("f0 0f c1 03"), INSN_AGAIN); /* lock xadd [rbx], eax */
	assert_int_equal(g.cpu.rip, 0x1000);
	assert_int_equal(g.cpu.gpr[0], 1);
	assert_int_equal(emulate("f0 0f c1 03"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 11);
	assert_int_equal(g.memory[0x2000], 12);
	/* XCHG with memory is atomic without being told to. */
	g.race = true;
	assert_int_equal(emulate("87 03"), INSN_AGAIN);
	assert_int_equal(emulate("87 03"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 13);
	g.env.ops = &memory_ops;
	assert_int_equal(emulate("87 03"), INSN_UNSUPPORTED);
}

/* A write that cannot be leaves registers and flags alone. */
static void test_faults(void **state)
{
	(void)state;
	g.read_only = 0x4000;
	g.cpu.gpr[3] = 0x5000;
	g.cpu.gpr[0] = UINT64_MAX;
	assert_fault("01 03", INSN_EXC_PF);
	assert_int_equal(g.env.fault.address, 0x5000);
	assert_int_equal(g.env.fault.error, 7);
	assert_fault("0f c1 03", INSN_EXC_PF);	  /* xadd */
	assert_fault("0f b1 03", INSN_EXC_PF);	  /* cmpxchg writes in any case */
	assert_fault("d1 23", INSN_EXC_PF);	  /* shl */
	assert_fault("50", INSN_EXC_PF);	  /* push rax */
	assert_fault("e8 00000000", INSN_EXC_PF); /* call */
	assert_fault("8f 03", INSN_EXC_PF);	  /* pop [rbx] leaves RSP alone */
	assert_fault("c8 1000 00", INSN_EXC_PF);  /* enter */
	g.cpu.gpr[7] = 0x5000;
	assert_fault("a5", INSN_EXC_PF); /* movs */
	g.cpu.gpr[3] = UINT64_C(1) << 60;
	assert_fault("01 03", INSN_EXC_GP); /* not canonical */
	g.cpu.gpr[5] = UINT64_C(1) << 60;
	assert_fault("03 45 00", INSN_EXC_SS); /* the same by RBP */
	assert_fault("f7 f1", INSN_EXC_DE);
	assert_fault("0f 0b", INSN_EXC_UD);
	g.cpu.gpr[0] = UINT64_C(1) << 60;
	assert_fault("ff e0", INSN_EXC_GP); /* jmp rax */
}

static void test_rep(void **state)
{
	(void)state;
	memcpy(g.memory + 0x2000, "0123456789abcdef", 16);
	g.cpu.gpr[6] = 0x2000;
	g.cpu.gpr[7] = 0x3ffc;
	g.cpu.gpr[1] = 12;
	g.read_only = 0x4000;
	/* The page fault comes in the middle: what was moved is moved. */
	assert_int_equal(emulate("f3 a4"), INSN_FAULT);
	assert_int_equal(g.cpu.gpr[1], 8);
	assert_int_equal(g.cpu.gpr[6], 0x2004);
	assert_int_equal(g.cpu.gpr[7], 0x4000);
	assert_int_equal(g.cpu.rip, 0x1000);
	g.read_only = MEMORY_BYTES;
	assert_int_equal(emulate("f3 a4"), INSN_DONE);
	assert_memory_equal(g.memory + 0x3ffc, "0123456789ab", 12);
	assert_int_equal(g.cpu.gpr[1], 0);
	/* Too long for one turn. */
	g.cpu.gpr[1] = 10000;
	g.cpu.gpr[7] = 0x4000;
	g.cpu.gpr[0] = 0x55;
	assert_int_equal(emulate("f3 aa"), INSN_AGAIN);
	assert_int_equal(g.cpu.rip, 0x1002);
	assert_true(g.cpu.gpr[1] > 0 && g.cpu.gpr[1] < 10000);
	while (emulate("f3 aa") == INSN_AGAIN) {
	}
	assert_int_equal(g.cpu.gpr[7], 0x4000 + 10000);
	assert_int_equal(g.cpu.rip, 0x1004);
	/* An MMIO read in the middle. */
	g.mmio = 0x2008;
	g.cpu.gpr[1] = 3;
	g.cpu.gpr[6] = 0x2004;
	assert_int_equal(emulate("f3 ad"), INSN_EXIT); /* lods */
	assert_int_equal(g.cpu.gpr[1], 2);
	assert_int_equal(g.cpu.gpr[6], 0x2008);
	g.mmio_answered = true;
	assert_int_equal(emulate("f3 ad"), INSN_DONE);
	assert_int_equal((uint32_t)g.cpu.gpr[0], 0x66656463);
}

/* A page fault behind an element that has set the flags. */
static void test_rep_flags(void **state)
{
	(void)state;
	for (unsigned intel = 0; intel < 2; intel++) {
		g.intel = intel != 0;
		g.cpu.rflags = BIT(1);
		g.cpu.gpr[0] = 0;
		g.cpu.gpr[1] = 2;
		g.memory[MEMORY_BYTES - 1] = 1;
		g.cpu.gpr[7] = MEMORY_BYTES - 1;
		assert_int_equal(emulate("f2 ae"), INSN_FAULT); /* repne scasb */
		assert_int_equal(g.cpu.gpr[1], 1);
		assert_int_equal(g.cpu.gpr[7], MEMORY_BYTES);
		assert_int_equal((g.cpu.rflags & BIT(0)) != 0, !g.intel); /* 0 - 1 borrows */
	}
}

static void test_ports(void **state)
{
	(void)state;
	memcpy(g.ports_in, "\x11\x22\x33\x44", 4);
	g.cpu.gpr[0] = UINT64_MAX;
	assert_int_equal(emulate("e5 60"), INSN_DONE); /* in eax, 0x60 */
	assert_int_equal(g.cpu.gpr[0], 0x44332211);
	g.cpu.gpr[2] = 0x3f8;
	assert_int_equal(emulate("66 ef"), INSN_DONE); /* out dx, ax */
	assert_memory_equal(g.ports_out, "\x11\x22", 2);
	assert_int_equal(g.out_at, 2);
	g.cpu.gpr[2] = 0x999;
	assert_int_equal(emulate("ec"), INSN_EXIT);
	assert_int_equal(emulate("ee"), INSN_EXIT);
	assert_int_equal(g.cpu.rip, 0x1004);
}

static void test_port_strings(void **state)
{
	(void)state;
	memcpy(g.ports_in, "abcdefghijklmnopqrst", 20);
	g.cpu.gpr[2] = 0x170;
	g.cpu.gpr[1] = 10;
	g.cpu.gpr[7] = 0x3000 - 8;
	/* A batch ends at the page's end, then where the port wants. */
	assert_int_equal(emulate("f3 66 6d"), INSN_AGAIN); /* insw */
	assert_int_equal(g.cpu.gpr[1], 6);
	g.batch_max = 2;
	assert_int_equal(emulate("f3 66 6d"), INSN_AGAIN);
	assert_int_equal(g.cpu.gpr[1], 4);
	g.batch_max = 64;
	assert_int_equal(emulate("f3 66 6d"), INSN_DONE);
	assert_int_equal(g.batches, 3);
	assert_memory_equal(g.memory + 0x3000 - 8, "abcdefghijklmnopqrst", 20);
	assert_int_equal(g.cpu.gpr[7], 0x3000 + 12);
	/* Memory that cannot be written to: nothing is read from the port. */
	g.read_only = 0x2000;
	g.batches = 0;
	assert_fault("6c", INSN_EXC_PF);
	assert_int_equal(g.batches, 0);
	/* OUTS backwards goes one by one. */
	g.cpu.rflags |= BIT(10);
	g.cpu.gpr[1] = 2;
	g.cpu.gpr[6] = 0x3001;
	assert_int_equal(emulate("f3 6e"), INSN_AGAIN);
	assert_int_equal(emulate("f3 6e"), INSN_DONE);
	assert_memory_equal(g.ports_out, "ji", 2);
	assert_int_equal(emulate("f3 6e"), INSN_DONE); /* RCX is zero */
	assert_int_equal(g.out_at, 2);
}

/* With CPL above IOPL the map in the TSS counts. */
static void test_io_permission(void **state)
{
	(void)state;
	g.cpu.cpl = 3;
	assert_fault("e4 60", INSN_EXC_GP); /* no TSS */
	g.cpu.tr = (struct insn_segment){.attr = 0x8b, .limit = 0x68 + 32, .base = 0x6000};
	g.memory[0x6000 + 102] = 0x68;
	assert_int_equal(emulate("e4 60"), INSN_DONE);
	g.memory[0x6068 + 0x60 / 8] = 2;
	assert_int_equal(emulate("e4 60"), INSN_DONE);
	assert_fault("e4 61", INSN_EXC_GP);
	assert_fault("e5 60", INSN_EXC_GP); /* four ports */
	g.cpu.gpr[2] = 0x100;
	assert_fault("ec", INSN_EXC_GP); /* beyond the map */
	g.cpu.rflags |= BIT(12) | BIT(13);
	assert_int_equal(emulate("ec"), INSN_DONE);
}

static void test_branches(void **state)
{
	(void)state;
	g.cpu.gpr[0] = 0x7000;
	assert_int_equal(emulate("ff d0"), INSN_DONE); /* call rax */
	assert_int_equal(g.cpu.rip, 0x7000);
	assert_int_equal(g.cpu.gpr[4], 0x7ff8);
	assert_int_equal(emulate("c2 1000"), INSN_DONE); /* ret 16 */
	assert_int_equal(g.cpu.rip, 0x1002);
	assert_int_equal(g.cpu.gpr[4], 0x8010);
	assert_int_equal(emulate("e9 fbffffff"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x1002);
	memcpy(g.memory + 0x2000, "\x00\x30", 2);
	assert_int_equal(emulate("ff 24 25 00200000"), INSN_DONE); /* jmp [0x2000] */
	assert_int_equal(g.cpu.rip, 0x3000);
	assert_int_equal(emulate("e8 fb0f0000"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x4000);
}

static void test_segments(void **state)
{
	(void)state;
	g.cpu.seg[INSN_DS].limit = 0x2fff;
	g.cpu.seg[INSN_DS].base = 0x1000;
	g.memory[0x3ffc] = 0x77;
	g.cpu.gpr[3] = 0x2ffc;
	assert_int_equal(emulate("8b 03"), INSN_DONE); /* mov eax, [ebx] */
	assert_int_equal(g.cpu.gpr[0], 0x77);
	g.cpu.gpr[3] = 0x2ffd;
	assert_fault("8b 03", INSN_EXC_GP);
	g.cpu.seg[INSN_SS].limit = 0x2fff;
	assert_fault("36 8b 03", INSN_EXC_SS);
}

static void test_segment_types(void **state)
{
	(void)state;
	g.cpu.gpr[3] = 0x100;
	g.cpu.seg[INSN_DS].attr = 0xc91; /* read-only */
	assert_int_equal(emulate("8b 03"), INSN_DONE);
	assert_fault("89 03", INSN_EXC_GP);
	assert_fault("01 03", INSN_EXC_GP);
	assert_fault("2e 89 03", INSN_EXC_GP); /* cs */
	g.cpu.seg[INSN_CS].attr = 0xc99;       /* execute-only */
	assert_fault("2e 8b 03", INSN_EXC_GP);
	g.cpu.seg[INSN_ES].attr = 0; /* null */
	assert_fault("26 8b 03", INSN_EXC_GP);
	/* Expands down: what is above the limit. */
	g.cpu.seg[INSN_SS].attr = 0xc97;
	g.cpu.seg[INSN_SS].limit = 0x7fff;
	assert_int_equal(emulate("58"), INSN_DONE);
	g.cpu.gpr[4] = 0x8000;
	assert_fault("50", INSN_EXC_SS);
	g.cpu.gpr[4] = 0x8004;
	assert_int_equal(emulate("50"), INSN_DONE);
}

static void test_32(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		g.cpu.gpr[i] = i == 4 ? 0x8000 : 0x100 + i;
	}
	assert_int_equal(emulate("60"), INSN_DONE); /* pusha */
	assert_int_equal(g.cpu.gpr[4], 0x8000 - 32);
	assert_memory_equal(g.memory + 0x8000 - 4, "\x00\x01\x00\x00", 4);
	assert_memory_equal(g.memory + 0x8000 - 20, "\x00\x80\x00\x00", 4);
	assert_memory_equal(g.memory + 0x8000 - 32, "\x07\x01\x00\x00", 4);
	g.cpu.gpr[0] = 0;
	g.cpu.gpr[7] = 0;
	assert_int_equal(emulate("61"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 0x100);
	assert_int_equal(g.cpu.gpr[7], 0x107);
	assert_int_equal(g.cpu.gpr[4], 0x8000);
	memcpy(g.memory + 0x2000, "\xff\xff\xff\xff\x05\x00\x00\x00", 8);
	g.cpu.gpr[0] = 5;
	assert_int_equal(emulate("62 05 00200000"), INSN_DONE); /* bound */
	g.cpu.gpr[0] = 6;
	assert_fault("62 05 00200000", INSN_EXC_BR);
	g.cpu.seg[INSN_CS].limit = 0x5000;
	g.cpu.gpr[0] = 0x5001;
	assert_fault("ff e0", INSN_EXC_GP);
	/* 9 + 8 = 17, decimally; 23 / 10 */
	g.cpu.gpr[0] = 0x11;
	g.cpu.rflags |= BIT(4);
	assert_int_equal(emulate("27"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 0x17);
	g.cpu.gpr[0] = 23;
	assert_int_equal(emulate("d4 0a"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 0x203);
	assert_int_equal(emulate("d5 0a"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 23);
	assert_fault("d4 00", INSN_EXC_DE);
}

static void test_real(void **state)
{
	(void)state;
	g.cpu.gpr[0] = 0x200;
	assert_int_equal(emulate("8e d8"), INSN_DONE); /* mov ds, ax */
	assert_int_equal(g.cpu.seg[INSN_DS].selector, 0x200);
	assert_int_equal(g.cpu.seg[INSN_DS].base, 0x2000);
	assert_false(g.cpu.interrupt_shadow);
	g.memory[0x2010] = 0x99;
	g.cpu.gpr[3] = 0xffff000c;
	g.cpu.gpr[6] = 4;
	assert_int_equal(emulate("8a 00"), INSN_DONE); /* mov al, [bx + si] */
	assert_int_equal(g.cpu.gpr[0], 0x299);
	assert_int_equal(emulate("8e d0"), INSN_DONE); /* mov ss, ax */
	assert_true(g.cpu.interrupt_shadow);
	assert_int_equal(emulate("90"), INSN_DONE);
	assert_false(g.cpu.interrupt_shadow);
	g.cpu.seg[INSN_SS].base = 0;
	g.cpu.gpr[4] = 0xffff0002;
	assert_int_equal(emulate("50"), INSN_DONE); /* push ax */
	assert_int_equal(g.cpu.gpr[4], 0xffff0000);
	assert_int_equal(emulate("50"), INSN_DONE); /* SP wraps */
	assert_int_equal(g.cpu.gpr[4], 0xfffffffe);
	g.cpu.gpr[3] = 0xffff;
	g.cpu.gpr[6] = 0;
	assert_fault("8b 00", INSN_EXC_GP);    /* a word at offset 0xffff */
	assert_fault("0f 00 c0", INSN_EXC_UD); /* sldt */
	assert_int_equal(emulate("0f 22 c0"), INSN_DONE);
}

static void test_vectors(void **state)
{
	(void)state;
	memcpy(g.memory + 0x2001, "0123456789abcdef", 16);
	g.cpu.gpr[0] = 0x2001;
	assert_int_equal(emulate("0f 10 00"), INSN_DONE); /* movups */
	assert_memory_equal(g.xmm, "0123456789abcdef", 16);
	assert_fault("0f 28 00", INSN_EXC_GP); /* movaps */
	g.cpu.cr0 |= BIT(3);
	assert_fault("0f 10 00", INSN_EXC_NM);
	g.cpu.cr0 = (g.cpu.cr0 & ~BIT(3)) | BIT(2);
	assert_fault("0f 10 00", INSN_EXC_UD);
	g.cpu.cr0 &= ~BIT(2);
	g.cpu.cr4 &= ~BIT(9);
	assert_fault("0f 10 00", INSN_EXC_UD);
	g.cpu.cr4 |= BIT(9);
	assert_int_equal(emulate("c5 f8 10 00"), INSN_UNSUPPORTED); /* vmovups */
	assert_int_equal(emulate("0f 6e c0"), INSN_UNSUPPORTED);    /* movd mm0, eax */
	g.env.ops = &memory_ops;
	assert_int_equal(emulate("0f 10 00"), INSN_UNSUPPORTED);
	assert_int_equal(emulate("0f a2"), INSN_UNSUPPORTED);
	assert_int_equal(emulate("e4 60"), INSN_UNSUPPORTED);
	assert_int_equal(emulate("6c"), INSN_UNSUPPORTED);
}

static enum insn_outcome run_nothing(struct insn_env *env, struct insn_native *n)
{
	(void)env;
	(void)n;
	return INSN_DONE;
}

/* To Intel operands of SHA have to be aligned, to AMD they need not be. */
static void test_sha(void **state)
{
	static struct insn_ops ops;
	static uint8_t buffer[64];

	(void)state;
	ops = all_ops;
	ops.native = run_nothing;
	g.env.ops = &ops;
	g.env.buffer = buffer;
	g.env.buffer_len = sizeof(buffer);
	g.cpu.gpr[0] = 0x2001;
	assert_int_equal(emulate("0f 38 c8 00"), INSN_DONE); /* sha1nexte */
	g.intel = true;
	assert_fault("0f 38 c8 00", INSN_EXC_GP);
	g.cpu.gpr[0] = 0x2000;
	assert_int_equal(emulate("0f 38 c8 00"), INSN_DONE);
}

static void test_mode(void **state)
{
	(void)state;
	assert_int_equal(insn_mode(&g.cpu), INSN_64);
	g.cpu.seg[INSN_CS].attr = 0xc9b;
	assert_int_equal(insn_mode(&g.cpu), INSN_32);
	g.cpu.seg[INSN_CS].attr = 0x89b;
	assert_int_equal(insn_mode(&g.cpu), INSN_16);
	g.cpu.efer = 0;
	g.cpu.seg[INSN_CS].attr = 0xc9b;
	assert_int_equal(insn_mode(&g.cpu), INSN_32);
	g.cpu.rflags |= BIT(17);
	assert_int_equal(insn_mode(&g.cpu), INSN_16);
}

static void test_alignment_check(void **state)
{
	(void)state;
	g.cpu.cr0 |= BIT(18);
	g.cpu.rflags |= BIT(18);
	g.cpu.gpr[0] = 0x2001;
	assert_int_equal(emulate("8b 08"), INSN_DONE);
	g.cpu.cpl = 3;
	assert_fault("8b 08", INSN_EXC_AC);
	g.cpu.gpr[0] = 0x2004;
	assert_int_equal(emulate("8b 08"), INSN_DONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_exit, start_long),
		cmocka_unit_test_setup(test_lock, start_long),
		cmocka_unit_test_setup(test_faults, start_long),
		cmocka_unit_test_setup(test_rep, start_long),
		cmocka_unit_test_setup(test_rep_flags, start_long),
		cmocka_unit_test_setup(test_ports, start_long),
		cmocka_unit_test_setup(test_port_strings, start_long),
		cmocka_unit_test_setup(test_io_permission, start_long),
		cmocka_unit_test_setup(test_branches, start_long),
		cmocka_unit_test_setup(test_segments, start_32),
		cmocka_unit_test_setup(test_segment_types, start_32),
		cmocka_unit_test_setup(test_32, start_32),
		cmocka_unit_test_setup(test_real, start_real),
		cmocka_unit_test_setup(test_vectors, start_long),
		cmocka_unit_test_setup(test_sha, start_long),
		cmocka_unit_test_setup(test_mode, start_long),
		cmocka_unit_test_setup(test_alignment_check, start_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
