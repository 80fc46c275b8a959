/* Instructions that are carried out without who has emulated them before. */
#include "lib/kvm/emul.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/emul_here.h"
#include "lib/kvm/fake_env.h"
#include "lib/kvm/fake_irq.h"
#include "lib/kvm/plain_of.h"
#include "lib/x86/regs.h"

#define PAGE 4096
#define RAM  (64 * PAGE)
#define CODE 0x1000
#define HOLE UINT64_C(0x80000)

static _Alignas(PAGE) uint8_t ram[RAM];

static struct fake f;
static struct kvm_vcpu *vcpu;
static struct kvm_run *run;
static unsigned emulated;
static uint64_t chance_state = 88172645463325252;

static uint64_t chance(void)
{
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return chance_state >> 3;
}

/* As the annex does it. */
static enum insn_outcome emulate_and_tell(struct kvm_vcpu *v)
{
	struct insn insn;

	emulated++;
	if (insn_decode(&insn, INSN_64, v->exits->code, v->exits->code_bytes) == INSN_OK &&
	    !kvm_plain_of(&v->exits->found, &insn)) {
		v->exits->found.len = 0;
	}
	return kvm_emulate_here(v, NULL);
}

/* 64-bit code, as if its addresses were mapped to themselves; RBX is the device's. */
static int set_up(void **state)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rbx = HOLE};

	(void)state;
	fake_init(&f);
	fake_irq = (struct fake_irq){0};
	f.finds_code = true;
	f.emulate = emulate_and_tell;
	emulated = 0;
	memset(ram, 0x90, sizeof(ram));
	(void)fake_vm(&f);
	assert_int_equal(fake_slot(&f, 0, 0, 0, RAM, ram), 0);
	vcpu = fake_vcpu(&f, 0);
	run = kvm_vcpu_mmap(vcpu, 0);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_REGS, &regs), 0);
	vcpu->cpu.cr0 = CR0_PE;
	vcpu->cpu.efer = EFER_LME | EFER_LMA;
	vcpu->cpu.seg[INSN_CS].attr = INSN_SEG_P | INSN_SEG_S | INSN_SEG_L | 0xb;
	vcpu->cpu.seg[INSN_CS].base = 0;
	vcpu->cpu.cpl = 0;
	vcpu->changed = KVM_REGS_CONTROL | KVM_REGS_SEGMENTS;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_close(&f);
	fake_end(&f);
	return 0;
}

/* The guest comes to the instruction once more, which stops at @gpa. */
static void stop_at(uint64_t gpa, bool write)
{
	static struct fake_step step;

	step = (struct fake_step){.stop = {.reason = KVM_STOP_MEMORY,
					   .memory = {.gpa = gpa, .write = write, .exact = true}}};
	vcpu->cpu.rip = CODE;
	vcpu->changed |= KVM_REGS_CORE;
	fake_play(&f, &step, 1);
	assert_true(vcpu_call(vcpu, KVM_RUN, NULL) >= -133);
}

static void expect_store(uint32_t bytes, uint64_t value)
{
	assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(run->mmio.is_write, 1);
	assert_int_equal(run->mmio.len, bytes);
	assert_memory_equal(run->mmio.data, &value, bytes);
}

static void is_emulated_once(void **state)
{
	(void)state;
	memcpy(ram + CODE, "\x89\x03", 2); /* mov [rbx], eax */
	for (unsigned i = 0; i < 5; i++) {
		vcpu->cpu.gpr[0] = 0x1000 + i;
		stop_at(HOLE, true);
		expect_store(4, 0x1000 + i);
		assert_true(vcpu->cpu.rip == CODE + 2);
		assert_int_equal(emulated, 1);
	}
	/* Another instruction, in the bytes that count. */
	ram[CODE + 1] = 0x0b; /* mov [rbx], ecx */
	vcpu->cpu.gpr[1] = 7;
	stop_at(HOLE, true);
	expect_store(4, 7);
	assert_int_equal(emulated, 2);
	/* Its operand is not what the CPU stopped at, or is stepped over: that is the emulator's.
	 */
	stop_at(HOLE + 4, true);
	assert_int_equal(emulated, 3);
	vcpu->cpu.rflags |= RFLAGS_TF;
	stop_at(HOLE, true);
	assert_int_equal(emulated, 4);
}

static void a_load_takes_the_answer(void **state)
{
	(void)state;
	memcpy(ram + CODE, "\x3b\x03", 2); /* cmp eax, [rbx] */
	for (unsigned i = 0; i < 4; i++) {
		uint32_t answer = i;

		vcpu->cpu.gpr[0] = 2;
		stop_at(HOLE, false);
		assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
		assert_int_equal(run->mmio.is_write, 0);
		memcpy(run->mmio.data, &answer, sizeof(answer));
		run->immediate_exit = 1;
		assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), -EINTR);
		run->immediate_exit = 0;
		assert_true(vcpu->cpu.rip == CODE + 2);
		assert_true((vcpu->cpu.rflags & RFLAGS_CF) == (i > 2 ? RFLAGS_CF : 0));
		assert_true((vcpu->cpu.rflags & RFLAGS_ZF) == (i == 2 ? RFLAGS_ZF : 0));
	}
	assert_int_equal(emulated, 2); /* the first, until and from the answer on */
}

/* Says whatever it likes of what it has seen. */
static enum insn_outcome emulate_nonsense(struct kvm_vcpu *v)
{
	uint8_t *bytes = (uint8_t *)&v->exits->found;

	emulated++;
	for (unsigned i = 0; i < sizeof(v->exits->found); i++) {
		bytes[i] = (uint8_t)(chance() >> (chance() % 2 != 0 ? 0 : 52));
	}
	if (chance() % 8 != 0) {
		struct kvm_plain *p = &v->exits->found;

		/* What is sound by and large. */
		p->len = (uint8_t)(p->len % 17);
		p->op = (uint8_t)(p->op % (KVM_PLAIN_NOPS + 1));
		p->store = p->store & 1;
		p->bytes = p->to_bytes = (uint8_t)(1u << chance() % 5);
		p->reg = (uint8_t)(chance() % 17);
		p->base = (uint8_t)(p->base % 17);
		p->index = (uint8_t)(p->index % 17);
		p->shift = p->shift & 3;
	}
	return (enum insn_outcome)(chance() % 6);
}

static void nonsense_is_survived(void **state)
{
	unsigned carried_out = 0;

	(void)state;
	memcpy(ram + CODE, "\x89\x03", 2);
	f.emulate = emulate_nonsense;
	for (unsigned i = 0; i < 100000; i++) {
		struct kvm_vcpu_events none = {0};
		unsigned before;
		uint64_t gpa;

		if (i % 4 == 0) {
			ram[CODE + 2] = (uint8_t)chance();
			assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &none), 0);
		}
		for (unsigned k = 0; k < ARRAY_SIZE(vcpu->cpu.gpr); k++) {
			vcpu->cpu.gpr[k] = HOLE;
		}
		vcpu->cpu.rflags = 2;
		vcpu->cpu.rip = CODE;
		gpa = HOLE + chance() % PAGE;
		if (kvm_plain_is_sound(&vcpu->exits->found)) {
			gpa = HOLE + kvm_plain_address(&vcpu->exits->found, &vcpu->cpu) % PAGE;
		}
		before = emulated;
		stop_at(gpa, chance() % 2 != 0);
		carried_out += emulated == before;
	}
	assert_true(emulated > 10000 && carried_out > 10000);
}

/* As the CPU leaves it in a VMCB: the number, and the bytes. */
static void fetched_code_comes_first(void **state)
{
	static uint8_t fetched[16] = "\0\x89\x0b"; /* mov [rbx], ecx */

	(void)state;
	vcpu->fetched = fetched;
	vcpu->cpu.gpr[0] = 0x1000;
	vcpu->cpu.gpr[1] = 0x2000;
	memcpy(ram + CODE, "\x89\x03", 2); /* by now: mov [rbx], eax */
	for (unsigned i = 0; i < 2 * 256; i++) {
		fetched[0] = (uint8_t)(i / 2);
		stop_at(HOLE, true);
		expect_store(4, i / 2 == INSN_MAX ? 0x2000 : 0x1000);
		assert_true(vcpu->cpu.rip == CODE + 2);
	}
	assert_int_equal(emulated, 3); /* when it is another one than the last time */
	/* Zeros are no instruction that the CPU would have left to be guessed. */
	memset(fetched + 1, 0, INSN_MAX);
	fetched[0] = INSN_MAX;
	stop_at(HOLE, true);
	expect_store(4, 0x1000);
	/* In 32-bit code 0x48 is an instruction of its own. */
	memcpy(fetched + 1, "\x48\x89\x0b", 3);
	stop_at(HOLE, true);
	expect_store(8, 0x2000);
	vcpu->cpu.seg[INSN_CS].attr ^= INSN_SEG_L | INSN_SEG_DB;
	vcpu->cpu.seg[INSN_DS].limit = UINT32_MAX;
	vcpu->cpu.efer = 0;
	vcpu->changed = KVM_REGS_CONTROL | KVM_REGS_SEGMENTS;
	stop_at(HOLE, true);
	expect_store(4, 0x1000);
}

static void stop_at_cr(unsigned number, unsigned gpr, bool write, unsigned len)
{
	static struct fake_step step;

	step = (struct fake_step){.stop = {.reason = KVM_STOP_CR,
					   .insn_len = (uint8_t)len,
					   .cr = {(uint8_t)number, (uint8_t)gpr, write}}};
	vcpu->cpu.rip = CODE;
	vcpu->changed |= KVM_REGS_CORE;
	fake_play(&f, &step, 1);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT); /* that of the fake, 1 byte */
}

static void control_registers_need_no_code(void **state)
{
	struct kvm_vcpu_events none = {0};

	(void)state;
	memset(ram + CODE, 0, 16);
	for (unsigned gpr = 0; gpr < 16; gpr++) {
		vcpu->cpu.gpr[gpr] = 0x5000 + 0x1000 * gpr;
		stop_at_cr(3, gpr, true, 3 + gpr / 8);
		assert_true(vcpu->cr3 == 0x5000 + 0x1000 * gpr);
		assert_true(vcpu->cpu.rip == CODE + 3 + gpr / 8 + 1);
		stop_at_cr(0, gpr, false, 3);
		assert_true(vcpu->cpu.gpr[gpr] == vcpu->cpu.cr0);
	}
	/* What is not allowed is #GP, and RIP is at it. */
	vcpu->cpu.gpr[2] = BIT(63);
	stop_at_cr(4, 2, true, 3);
	assert_int_equal(f.delivered[f.deliveries - 1].vector, 13);
	assert_true(vcpu->cpu.rip == CODE + 1);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &none), 0);
	/* There is no CR5. */
	stop_at_cr(5, 2, true, 3);
	assert_int_equal(f.delivered[f.deliveries - 1].vector, 6);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &none), 0);
	/* 32-bit code has halves of registers. */
	vcpu->cpu.seg[INSN_CS].attr ^= INSN_SEG_L | INSN_SEG_DB;
	vcpu->cpu.efer = 0;
	vcpu->changed = KVM_REGS_CONTROL | KVM_REGS_SEGMENTS;
	vcpu->cpu.gpr[2] = BIT(63) | CR4_PSE;
	stop_at_cr(4, 2, true, 3);
	assert_true(vcpu->cpu.cr4 == CR4_PSE);
	assert_int_equal(emulated, 0);
	/* Who steps is told behind it. */
	vcpu->cpu.rflags |= RFLAGS_TF;
	stop_at_cr(3, 2, true, 3);
	assert_int_equal(f.delivered[f.deliveries - 1].vector, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_emulated_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_load_takes_the_answer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nonsense_is_survived, set_up, tear_down),
		cmocka_unit_test_setup_teardown(fetched_code_comes_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(control_registers_need_no_code, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
