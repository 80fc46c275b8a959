/* Memory without a slot: instructions that read, change and write it; strings, stack, branches. */
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define ALL    (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)
#define NOT_AF (ALL & ~FLAG_AF) /* what logic instructions define */

#define BEGIN "mov $0xd0000000, %ebx; mov %rbx, %rsi; mov %rbx, %rdi; mov $0x20000, %ebp;"

static uint64_t pushed(struct vm *vm, unsigned int n)
{
	return *scene_word(vm, VM_STACK - 8 * (n + 1));
}

/* The flags that the guest pushed as the @n-th. */
#define expect_flags(vm, n, mask, want) expect_eq(pushed((vm), (n)) & (mask), (want))

PAYLOAD(64, add_sub,
	BEGIN "mov $1, %eax; addb $1, (%rbx); pushf; addl %eax, (%rbx); pushf; addq $-1, (%rbx);"
	      "pushf; subw $1, (%rbx); pushf; add (%rbx), %rax; pushf; hlt");

static void add_and_sub(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, add_sub);

	expect_steps(vcpu, R(0, 1, 0x7f), W(0, 1, 0x80), R(0, 4, 0xffffffff), W(0, 4, 0),
		     R(0, 8, 1), W(0, 8, 0), R(0, 2, 0), W(0, 2, 0xffff), R(0, 8, 0x10));
	expect_flags(&vm, 0, ALL, FLAG_OF | FLAG_SF | FLAG_AF);
	expect_flags(&vm, 1, ALL, FLAG_CF | FLAG_ZF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 2, ALL, FLAG_CF | FLAG_ZF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 3, ALL, FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 4, ALL, FLAG_PF);
	expect_eq(vcpu_regs(vcpu).rax, 0x11);
}

PAYLOAD(64, carry,
	BEGIN "stc; adcl $0, (%rbx); pushf; stc; sbbb $0, (%rbx); pushf;"
	      "clc; adcq $0x10, (%rbx); pushf; hlt");

static void adc_and_sbb(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, carry);

	expect_steps(vcpu, R(0, 4, 0xffffffff), W(0, 4, 0), R(0, 1, 0), W(0, 1, 0xff), R(0, 8, 1),
		     W(0, 8, 0x11));
	expect_flags(&vm, 0, ALL, FLAG_CF | FLAG_ZF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 1, ALL, FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 2, ALL, FLAG_PF);
}

PAYLOAD(64, logic,
	BEGIN "movabs $0x8000000000000001, %rax; stc; or %rax, (%rbx); pushf;"
	      "stc; andb $0xf0, (%rbx); pushf; stc; xor %ax, (%rbx); pushf; hlt");

static void and_or_xor(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, logic);

	expect_steps(vcpu, R(0, 8, 2), W(0, 8, 0x8000000000000003), R(0, 1, 0x0f), W(0, 1, 0),
		     R(0, 2, 0x8103), W(0, 2, 0x8102));
	expect_flags(&vm, 0, NOT_AF, FLAG_SF | FLAG_PF);
	expect_flags(&vm, 1, NOT_AF, FLAG_ZF | FLAG_PF);
	expect_flags(&vm, 2, NOT_AF, FLAG_SF);
}

PAYLOAD(64, compare,
	BEGIN "mov $0x80, %eax; cmpb $1, (%rbx); pushf; cmp %eax, (%rbx); pushf; cmp (%rbx), %al;"
	      "pushf; stc; test %eax, (%rbx); pushf; testb $0x7f, (%rbx); pushf; hlt");

static void cmp_and_test_write_nothing(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, compare);

	expect_steps(vcpu, R(0, 1, 0x80), R(0, 4, 0x80), R(0, 1, 0x81), R(0, 4, 0xff),
		     R(0, 1, 0x80));
	expect_flags(&vm, 0, ALL, FLAG_OF | FLAG_AF);
	expect_flags(&vm, 1, ALL, FLAG_ZF | FLAG_PF);
	expect_flags(&vm, 2, ALL, FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 3, NOT_AF, 0);
	expect_flags(&vm, 4, NOT_AF, FLAG_ZF | FLAG_PF);
}

PAYLOAD(64, inc_dec, BEGIN "stc; incl (%rbx); pushf; clc; decb (%rbx); pushf; hlt");

static void inc_and_dec_keep_carry(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, inc_dec);

	expect_steps(vcpu, R(0, 4, 0x7fffffff), W(0, 4, 0x80000000), R(0, 1, 0), W(0, 1, 0xff));
	expect_flags(&vm, 0, ALL, FLAG_CF | FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 1, ALL, FLAG_SF | FLAG_AF | FLAG_PF);
}

PAYLOAD(64, not_neg, BEGIN "stc; notl (%rbx); pushf; negw (%rbx); pushf; negb (%rbx); pushf; hlt");

static void not_keeps_flags_neg_does_not(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, not_neg);

	expect_steps(vcpu, R(0, 4, 0xff), W(0, 4, 0xffffff00), R(0, 2, 1), W(0, 2, 0xffff),
		     R(0, 1, 0), W(0, 1, 0));
	expect_flags(&vm, 0, FLAG_CF, FLAG_CF);
	expect_flags(&vm, 1, ALL, FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	expect_flags(&vm, 2, ALL, FLAG_ZF | FLAG_PF);
}

PAYLOAD(64, shifts,
	BEGIN "mov $4, %ecx; shll $1, (%rbx); pushf; shrb %cl, (%rbx); pushf;"
	      "sarw $2, (%rbx); rolb $1, (%rbx); pushf; hlt");

static void shifts_and_rotates(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, shifts);

	expect_steps(vcpu, R(0, 4, 0xc0000001), W(0, 4, 0x80000002), R(0, 1, 0x88), W(0, 1, 0x08),
		     R(0, 2, 0x8004), W(0, 2, 0xe001), R(0, 1, 0x81), W(0, 1, 0x03));
	expect_flags(&vm, 0, FLAG_CF | FLAG_ZF | FLAG_SF, FLAG_CF | FLAG_SF);
	expect_flags(&vm, 1, FLAG_CF | FLAG_ZF | FLAG_SF, FLAG_CF);
	expect_flags(&vm, 2, FLAG_CF, FLAG_CF);
}

PAYLOAD(64, bits,
	BEGIN "btl $4, (%rbx); pushf; btsw $1, (%rbx); pushf; btrq $63, (%rbx); pushf;"
	      "btcl $0, (%rbx); pushf; hlt");

static void bit_tests(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, bits);

	expect_steps(vcpu, R(0, 4, 0x10), R(0, 2, 0), W(0, 2, 2), R(0, 8, 0x8000000000000001),
		     W(0, 8, 1), R(0, 4, 1), W(0, 4, 0));
	expect_flags(&vm, 0, FLAG_CF, FLAG_CF);
	expect_flags(&vm, 1, FLAG_CF, 0);
	expect_flags(&vm, 2, FLAG_CF, FLAG_CF);
	expect_flags(&vm, 3, FLAG_CF, FLAG_CF);
}

PAYLOAD(64, bit_strings,
	BEGIN "mov $100, %eax; btl %eax, 0x20(%rbx); pushf; mov $-1, %rax;"
	      "bts %rax, 0x20(%rbx); pushf; hlt");

/* A bit number in a register reaches beyond the operand, in both directions. */
static void bit_number_in_a_register(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, bit_strings);

	expect_steps(vcpu, R(0x2c, 4, 0x10), R(0x18, 8, 0), W(0x18, 8, 0x8000000000000000));
	expect_flags(&vm, 0, FLAG_CF, FLAG_CF);
	expect_flags(&vm, 1, FLAG_CF, 0);
}

PAYLOAD(64, exchange,
	BEGIN "mov $0x11223344, %eax; xchg %eax, (%rbx); mov $0x55, %cl;"
	      "xchg %cl, 4(%rbx); hlt");

static void xchg(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, exchange);

	expect_steps(vcpu, R(0, 4, 0x81828384), W(0, 4, 0x11223344), R(4, 1, 0x99), W(4, 1, 0x55));
	expect_eq(vcpu_regs(vcpu).rax, 0x81828384);
	expect_eq(vcpu_regs(vcpu).rcx, 0x99);
}

PAYLOAD(64, compare_exchange,
	BEGIN "mov $5, %eax; mov $9, %ecx; lock cmpxchg %ecx, (%rbx); pushf;"
	      "lock cmpxchg %ecx, (%rbx); pushf; hlt");

/* Where the values differ a CPU writes the old one back; a provider may leave that out. */
static void expect_halt_after_old_value(struct vcpu *vcpu, uint32_t bytes, uint64_t old)
{
	int result = vcpu_run(vcpu);

	if (result == KVM_EXIT_MMIO) {
		expect(vcpu->run->mmio.is_write && vcpu->run->mmio.phys_addr == VM_HOLE);
		expect_eq(vcpu->run->mmio.len, bytes);
		expect(memcmp(vcpu->run->mmio.data, &old, bytes) == 0);
		result = vcpu_run(vcpu);
	}
	expect_eq(result, KVM_EXIT_HLT);
}

static void lock_cmpxchg(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, compare_exchange);

	expect_mmio_read(vcpu, VM_HOLE, 4, 5);
	expect_mmio_write(vcpu, VM_HOLE, 4, 9);
	expect_mmio_read(vcpu, VM_HOLE, 4, 7);
	expect_halt_after_old_value(vcpu, 4, 7);
	expect_flags(&vm, 0, ALL, FLAG_ZF | FLAG_PF);
	expect_flags(&vm, 1, FLAG_ZF, 0);
	expect_eq(vcpu_regs(vcpu).rax, 7);
}

PAYLOAD(64, compare_exchange8,
	"mov $0xd0000000, %edi; mov $5, %eax; mov $6, %edx; mov $9, %ebx;"
	"mov $10, %ecx; lock cmpxchg8b (%rdi); pushf; lock cmpxchg8b (%rdi);"
	"pushf; hlt");

static void lock_cmpxchg8b(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, compare_exchange8);

	expect_mmio_read(vcpu, VM_HOLE, 8, 0x600000005);
	expect_mmio_write(vcpu, VM_HOLE, 8, 0xa00000009);
	expect_mmio_read(vcpu, VM_HOLE, 8, 0x600000007);
	expect_halt_after_old_value(vcpu, 8, 0x600000007);
	expect_flags(&vm, 0, FLAG_ZF, FLAG_ZF);
	expect_flags(&vm, 1, FLAG_ZF, 0);
	expect_eq(vcpu_regs(vcpu).rax, 7);
	expect_eq(vcpu_regs(vcpu).rdx, 6);
}

PAYLOAD(64, exchange_add,
	BEGIN "mov $2, %eax; lock xadd %eax, (%rbx); pushf; lock addb $1, 4(%rbx);"
	      "hlt");

static void lock_xadd(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, exchange_add);

	expect_steps(vcpu, R(0, 4, 0xfffffffe), W(0, 4, 0), R(4, 1, 6), W(4, 1, 7));
	expect_eq(vcpu_regs(vcpu).rax, 0xfffffffe);
	expect_flags(&vm, 0, ALL, FLAG_CF | FLAG_ZF | FLAG_AF | FLAG_PF);
}

PAYLOAD(64, multiply,
	BEGIN "mov $3, %eax; mul %eax; imul (%rbx), %eax; imul $-2, 4(%rbx), %ecx;"
	      "mov $100, %eax; xor %edx, %edx; divl 8(%rbx); hlt");

static void imul_and_div(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, multiply);

	expect_steps(vcpu, R(0, 4, 7), R(4, 4, 5), R(8, 4, 7));
	expect_eq(vcpu_regs(vcpu).rcx, 0xfffffff6);
	expect_eq(vcpu_regs(vcpu).rax, 14);
	expect_eq(vcpu_regs(vcpu).rdx, 2);
}

/* ---- strings ---- */

PAYLOAD(64, string_from, BEGIN "mov $3, %ecx; mov %rbp, %rdi; rep movsl; movsb; hlt");

static void movs_from_a_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string_from);

	expect_steps(vcpu, R(0, 4, 0x11111111), R(4, 4, 0x22222222), R(8, 4, 0x33333333),
		     R(12, 1, 0x44));
	expect_eq(*scene_word(&vm, VM_FREE), 0x2222222211111111);
	expect_eq(*scene_word(&vm, VM_FREE + 8), 0x4433333333);
	expect_eq(vcpu_regs(vcpu).rsi, VM_HOLE + 13);
	expect_eq(vcpu_regs(vcpu).rdi, VM_FREE + 13);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

PAYLOAD(64, string_to, BEGIN "mov $2, %ecx; mov %rbp, %rsi; rep movsq; std; movsw; hlt");

static void movs_to_a_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string_to);

	*scene_word(&vm, VM_FREE) = 0x1122334455667788;
	*scene_word(&vm, VM_FREE + 8) = 0x99aabbccddeeff00;
	*scene_word(&vm, VM_FREE + 16) = 0x4321;
	expect_steps(vcpu, W(0, 8, 0x1122334455667788), W(8, 8, 0x99aabbccddeeff00),
		     W(16, 2, 0x4321));
	expect_eq(vcpu_regs(vcpu).rsi, VM_FREE + 14);
	expect_eq(vcpu_regs(vcpu).rdi, VM_HOLE + 14);
}

PAYLOAD(64, string_both, BEGIN "add $0x100, %rdi; mov $2, %ecx; rep movsw; hlt");

static void movs_between_devices(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string_both);

	expect_steps(vcpu, R(0, 2, 0x1111), W(0x100, 2, 0x1111), R(2, 2, 0x2222),
		     W(0x102, 2, 0x2222));
}

PAYLOAD(64, string_store, BEGIN "mov $0x11223344, %eax; mov $3, %ecx; rep stosw; stosl; hlt");

static void stos(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string_store);

	expect_steps(vcpu, W(0, 2, 0x3344), W(2, 2, 0x3344), W(4, 2, 0x3344), W(6, 4, 0x11223344));
	expect_eq(vcpu_regs(vcpu).rdi, VM_HOLE + 10);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

PAYLOAD(64, string_load,
	BEGIN "mov $-1, %rax; lodsb; push %rax; lodsl; push %rax; mov $2, %ecx;"
	      "std; rep lodsw; hlt");

static void lods(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string_load);

	expect_steps(vcpu, R(0, 1, 0x12), R(1, 4, 0x81828384), R(5, 2, 0x1111), R(3, 2, 0x2222));
	expect_eq(pushed(&vm, 0), 0xffffffffffffff12);
	expect_eq(pushed(&vm, 1), 0x81828384);
	expect_eq(vcpu_regs(vcpu).rax, 0x81822222);
	expect_eq(vcpu_regs(vcpu).rsi, VM_HOLE + 1);
}

PAYLOAD(64, string_scan,
	BEGIN "mov $7, %al; mov $9, %ecx; repne scasb; pushf; mov $9, %ecx;"
	      "repe scasb; pushf; hlt");

static void scas_stops_by_the_flag(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string_scan);

	expect_steps(vcpu, R(0, 1, 1), R(1, 1, 2), R(2, 1, 7), R(3, 1, 7), R(4, 1, 8));
	expect_flags(&vm, 0, ALL, FLAG_ZF | FLAG_PF);
	expect_flags(&vm, 1, ALL, FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	expect_eq(vcpu_regs(vcpu).rdi, VM_HOLE + 5);
	expect_eq(vcpu_regs(vcpu).rcx, 7);
}

PAYLOAD(64, string_compare, BEGIN "mov %rbp, %rdi; mov $9, %ecx; repe cmpsw; pushf; hlt");

static void cmps_stops_by_the_flag(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string_compare);

	*scene_word(&vm, VM_FREE) = 0x0000333322221111;
	expect_steps(vcpu, R(0, 2, 0x1111), R(2, 2, 0x2222), R(4, 2, 0x3332));
	/* The source is the first operand: 0x3332 - 0x3333. */
	expect_flags(&vm, 0, ALL, FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	expect_eq(vcpu_regs(vcpu).rsi, VM_HOLE + 6);
	expect_eq(vcpu_regs(vcpu).rdi, VM_FREE + 6);
	expect_eq(vcpu_regs(vcpu).rcx, 6);
}

/* ---- stack and branches ---- */

PAYLOAD(64, push_pop, BEGIN "pushq (%rbx); pushw 8(%rbx); popw 2(%rbx); popq 8(%rbx); hlt");

static void push_and_pop(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, push_pop);

	expect_steps(vcpu, R(0, 8, 0x1122334455667788), R(8, 2, 0x99aa), W(2, 2, 0x99aa),
		     W(8, 8, 0x1122334455667788));
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK);
}

PAYLOAD(64, stack,
	BEGIN "mov %rsp, %rbp; lea 0x100(%rbx), %rsp; mov $0x1234, %eax; push %rax;"
	      "pop %rcx; call stack_callee; mov %rbp, %rsp; hlt; stack_callee: ret");

static void stack_in_a_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, stack);
	uint64_t back;

	expect_mmio_write(vcpu, VM_HOLE + 0xf8, 8, 0x1234);
	expect_mmio_read(vcpu, VM_HOLE + 0xf8, 8, 0x5678);
	expect_exit(vcpu, KVM_EXIT_MMIO);
	memcpy(&back, vcpu->run->mmio.data, 8);
	expect(vcpu->run->mmio.is_write && vcpu->run->mmio.phys_addr == VM_HOLE + 0xf8);
	expect_mmio_read(vcpu, VM_HOLE + 0xf8, 8, back);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 0x5678);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK);
}

PAYLOAD(64, branches,
	BEGIN "call *(%rbx); branches_back: jmp *8(%rbx); hlt;"
	      "branches_callee: inc %ecx; ret; branches_end_here: hlt");
extern const char branches_back[], branches_callee[], branches_end_here[];

static void call_and_jmp(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, branches);

	expect_steps(vcpu, R(0, 8, PAYLOAD_AT(branches, branches_callee)),
		     R(8, 8, PAYLOAD_AT(branches, branches_end_here)));
	expect_eq(pushed(&vm, 0), PAYLOAD_AT(branches, branches_back));
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(branches, branches_end_here) + 1);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK);
}

#define SPEC(insn) "AMD APM vol. 3, " insn

const struct test_case mmio_rmw_cases[] = {
	{"mmio/add_and_sub", SPEC("ADD, SUB"), add_and_sub},
	{"mmio/adc_and_sbb", SPEC("ADC, SBB"), adc_and_sbb},
	{"mmio/and_or_xor", SPEC("AND, OR, XOR"), and_or_xor},
	{"mmio/cmp_and_test_write_nothing", SPEC("CMP, TEST"), cmp_and_test_write_nothing},
	{"mmio/inc_and_dec_keep_carry", SPEC("INC, DEC"), inc_and_dec_keep_carry},
	{"mmio/not_keeps_flags_neg_does_not", SPEC("NOT, NEG"), not_keeps_flags_neg_does_not},
	{"mmio/shifts_and_rotates", SPEC("SHL, SHR, SAR, ROL"), shifts_and_rotates},
	{"mmio/bit_tests", SPEC("BT, BTS, BTR, BTC"), bit_tests},
	{"mmio/bit_number_in_a_register", SPEC("BT, BTS"), bit_number_in_a_register},
	{"mmio/xchg", SPEC("XCHG"), xchg},
	{"mmio/lock_cmpxchg", SPEC("CMPXCHG"), lock_cmpxchg},
	{"mmio/lock_cmpxchg8b", SPEC("CMPXCHG8B"), lock_cmpxchg8b},
	{"mmio/lock_xadd", SPEC("XADD"), lock_xadd},
	{"mmio/imul_and_div", SPEC("IMUL, DIV"), imul_and_div},
	{"mmio/movs_from_a_device", SPEC("MOVS"), movs_from_a_device},
	{"mmio/movs_to_a_device", SPEC("MOVS"), movs_to_a_device},
	{"mmio/movs_between_devices", SPEC("MOVS"), movs_between_devices},
	{"mmio/stos", SPEC("STOS"), stos},
	{"mmio/lods", SPEC("LODS"), lods},
	{"mmio/scas_stops_by_the_flag", SPEC("SCAS"), scas_stops_by_the_flag},
	{"mmio/cmps_stops_by_the_flag", SPEC("CMPS"), cmps_stops_by_the_flag},
	{"mmio/push_and_pop", SPEC("PUSH, POP"), push_and_pop},
	{"mmio/stack_in_a_device", SPEC("PUSH, CALL, RET"), stack_in_a_device},
	{"mmio/call_and_jmp", SPEC("CALL, JMP"), call_and_jmp},
	TEST_END,
};
