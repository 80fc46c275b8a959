/*
 * Memory without a slot: the same instruction again and again, as in drivers' loops. A provider may
 * remember what it was; nothing of that may be seen.
 */
#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define TIMES 4

/* Rounds in ECX. */
#define BEGIN	    "mov $0xd0000000, %ebx; mov $4, %ecx;"
#define AGAIN(name) "dec %ecx; jnz " name "_loop; hlt"

static uint64_t value_of(unsigned int round, unsigned int n)
{
	return 0x8192a3b4c5d6e7f8 * (2 * round + 1) + n;
}

static uint64_t cut(uint64_t value, uint32_t bytes)
{
	return bytes == 8 ? value : value & ((UINT64_C(1) << 8 * bytes) - 1);
}

PAYLOAD(64, stores,
	BEGIN "stores_loop: mov (%rbx), %rax; mov %al, 1(%rbx); mov %ax, 2(%rbx);"
	      "mov %eax, 4(%rbx); mov %rax, 8(%rbx); movb $0x81, (%rbx); movw $0x8182, (%rbx);"
	      "movl $0x81828384, (%rbx); movq $-2, (%rbx);" AGAIN("stores"));

static void stores_again(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, stores);

	for (unsigned int i = 0; i < TIMES; i++) {
		uint64_t v = value_of(i, 0);

		expect_mmio_read(vcpu, VM_HOLE, 8, v);
		expect_mmio_write(vcpu, VM_HOLE + 1, 1, cut(v, 1));
		expect_mmio_write(vcpu, VM_HOLE + 2, 2, cut(v, 2));
		expect_mmio_write(vcpu, VM_HOLE + 4, 4, cut(v, 4));
		expect_mmio_write(vcpu, VM_HOLE + 8, 8, v);
		expect_mmio_write(vcpu, VM_HOLE, 1, 0x81);
		expect_mmio_write(vcpu, VM_HOLE, 2, 0x8182);
		expect_mmio_write(vcpu, VM_HOLE, 4, 0x81828384);
		expect_mmio_write(vcpu, VM_HOLE, 8, 0xfffffffffffffffe);
	}
	expect_exit(vcpu, KVM_EXIT_HLT);
}

PAYLOAD(64, loads,
	BEGIN "loads_loop: movabs $0x1122334455667788, %rax; mov (%rbx), %al; push %rax;"
	      "mov (%rbx), %ax; push %rax; movsbw (%rbx), %ax; push %rax; mov (%rbx), %eax;"
	      "push %rax; movzbl (%rbx), %eax; push %rax; movswq (%rbx), %rax; push %rax;"
	      "movslq (%rbx), %rax; push %rax; mov -8(%rbx,%rcx,8), %r9; push %r9;" AGAIN("loads"));

static void loads_again(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, loads);
	const uint64_t *top = scene_word(&vm, VM_STACK);

	for (unsigned int i = 0; i < TIMES; i++) {
		uint64_t high = 0x1122334455660000;

		expect_mmio_read(vcpu, VM_HOLE, 1, 0xa0 + i);
		expect_mmio_read(vcpu, VM_HOLE, 2, 0xb0b0 + i);
		expect_mmio_read(vcpu, VM_HOLE, 1, 0x7e + i);
		expect_mmio_read(vcpu, VM_HOLE, 4, 0xc0c0c0c0 + i);
		expect_mmio_read(vcpu, VM_HOLE, 1, 0xd0 + i);
		expect_mmio_read(vcpu, VM_HOLE, 2, 0x7ffe + i);
		expect_mmio_read(vcpu, VM_HOLE, 4, 0x7ffffffe + i);
		expect_mmio_read(vcpu, VM_HOLE + 8 * (TIMES - i) - 8, 8, value_of(i, 7));
		top -= 8;
		if (i == TIMES - 1) {
			expect_exit(vcpu, KVM_EXIT_HLT);
		} else {
			complete_only(vcpu);
		}
		expect_eq(top[7], high + 0x7700 + 0xa0 + i);
		expect_eq(top[6], high + 0xb0b0 + i);
		expect_eq(top[5], high + (uint16_t)(int8_t)(0x7e + i));
		expect_eq(top[4], 0xc0c0c0c0 + i);
		expect_eq(top[3], 0xd0 + i);
		expect_eq(top[2], (uint64_t)(int16_t)(0x7ffe + i));
		expect_eq(top[1], (uint64_t)(int32_t)(0x7ffffffe + i));
		if (i == TIMES - 1) {
			expect_eq(top[0], value_of(i, 7));
		}
	}
}

/*
 * The guest does it to memory, and, with what it then reads by a MOV, to RDX; results in RSI and
 * flags have to be the same. Of logic instructions AF is nobody's.
 */
#define SAME(of_memory, of_rdx, flags)                                            \
	"mov %rax, %rsi; stc;" of_memory "; pushf; push %rsi; mov 8(%rbx), %rdx;" \
	"mov %rax, %rsi; stc;" of_rdx "; pushf; pop %r8; pop %r9; pop %r10;"      \
	"xor %r8, %r10; test $" flags ", %r10d; jnz 9f; cmp %rsi, %r9; jne 9f;"
#define ARITH "0x8d5"
#define LOGIC "0x8c5"

/* Values around those that the guest computes with. */
static void same_as_of_a_register(const char *code, const char *code_end)
{
	static const uint64_t values[TIMES] = {0x80007fff80ff7f80, 0, 0x7fff800080008081,
					       0xffffffff7f00807f};
	struct vm vm;
	struct vcpu *vcpu = vm_begin(&vm, IRQCHIP_NONE, 64, code, code_end);

	for (unsigned int i = 0; i < TIMES; i++) {
		for (uint32_t bytes = 1; bytes <= 8; bytes *= 2) {
			expect_mmio_read(vcpu, VM_HOLE, bytes, cut(values[i], bytes));
			expect_mmio_read(vcpu, VM_HOLE + 8, 8, values[i]);
		}
	}
	expect_exit(vcpu, KVM_EXIT_HLT);
}

/* In all widths; few enough for a provider to remember them all. */
#define CASE(name, byte, word, dword, qword)                                                   \
	PAYLOAD(64, name,                                                                      \
		BEGIN "movabs $0x80007fff80ff7f80, %rax;" #name "_loop:" byte word dword qword \
		      "dec %ecx; jnz " #name "_loop; hlt; 9: ud2");                            \
	static void name##_again(void)                                                         \
	{                                                                                      \
		same_as_of_a_register(name, name##_end);                                       \
	}
#define TO_REGISTER(name, insn, flags)                                     \
	CASE(name, SAME(insn "b (%rbx), %sil", insn "b %dl, %sil", flags), \
	     SAME(insn "w (%rbx), %si", insn "w %dx, %si", flags),         \
	     SAME(insn "l (%rbx), %esi", insn "l %edx, %esi", flags),      \
	     SAME(insn "q (%rbx), %rsi", insn "q %rdx, %rsi", flags))
#define WITH_REGISTER(name, insn, flags)                                 \
	CASE(name, SAME(insn "b %al, (%rbx)", insn "b %al, %dl", flags), \
	     SAME(insn "w %ax, (%rbx)", insn "w %ax, %dx", flags),       \
	     SAME(insn "l %eax, (%rbx)", insn "l %eax, %edx", flags),    \
	     SAME(insn "q %rax, (%rbx)", insn "q %rax, %rdx", flags))
#define WITH_CONSTANT(name, insn, flags)                                            \
	CASE(name, SAME(insn "b $0x80, (%rbx)", insn "b $0x80, %dl", flags),        \
	     SAME(insn "w $0x7f80, (%rbx)", insn "w $0x7f80, %dx", flags),          \
	     SAME(insn "l $0x80ff7f80, (%rbx)", insn "l $0x80ff7f80, %edx", flags), \
	     SAME(insn "q $-0x7f008080, (%rbx)", insn "q $-0x7f008080, %rdx", flags))

TO_REGISTER(add, "add", ARITH)
TO_REGISTER(sub, "sub", ARITH)
TO_REGISTER(and, "and", LOGIC)
TO_REGISTER(or, "or", LOGIC)
TO_REGISTER(xor, "xor", LOGIC)
TO_REGISTER(cmp, "cmp", ARITH)
WITH_REGISTER(cmp_register, "cmp", ARITH)
WITH_CONSTANT(cmp_constant, "cmp", ARITH)
WITH_REGISTER(test_register, "test", LOGIC)
WITH_CONSTANT(test_constant, "test", LOGIC)

PAYLOAD(64, changing,
	BEGIN "mov $0x11, %eax; mov $0x22, %edx;"
	      "changing_loop: mov %eax, (%rbx);" AGAIN("changing"));
extern const char changing_loop[];

/* Where it was there is another one, each time. */
static void another_instruction(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, changing);
	uint8_t *insn = (uint8_t *)vm.ram + PAYLOAD_AT(changing, changing_loop);

	expect_mmio_write(vcpu, VM_HOLE, 4, 0x11);
	insn[1] = 0x13; /* MOV [rbx], EDX */
	expect_mmio_write(vcpu, VM_HOLE, 4, 0x22);
	insn[0] = 0x3b; /* CMP EDX, [rbx] */
	expect_mmio_read(vcpu, VM_HOLE, 4, 0x22);
	insn[0] = 0x88; /* MOV [rbx], DL */
	expect_mmio_write(vcpu, VM_HOLE, 1, 0x22);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

PAYLOAD(64, elsewhere,
	BEGIN "mov $0x20000, %edi; elsewhere_loop: mov (%rbx), %rax; push %rax;"
	      "add $0xffc, %rbx; xchg %rbx, %rdi;" AGAIN("elsewhere"));

/* From the device, from RAM, over the end of the device's page, from RAM. */
static void another_operand(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, elsewhere);

	*scene_word(&vm, VM_FREE) = 0x1234;
	expect_mmio_read(vcpu, VM_HOLE, 8, 0x8182838485868788);
	expect_mmio_read(vcpu, VM_HOLE + 0xffc, 4, 0x91929394);
	expect_mmio_read(vcpu, VM_HOLE + 0x1000, 4, 0xa1a2a3a4);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(*scene_word(&vm, VM_STACK - 8), 0x8182838485868788);
	expect_eq(*scene_word(&vm, VM_STACK - 16), 0x1234);
	expect_eq(*scene_word(&vm, VM_STACK - 24), 0xa1a2a3a491929394);
}

/* Another page of tables shows other code at the same address. */
PAYLOAD(64, mapped,
	BEGIN "mov $0x33, %eax; mov $0x44, %edx; mapped_loop: mov %eax, (%rbx);" AGAIN("mapped"));
extern const char mapped_loop[];

static void another_page(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, mapped);
	uint8_t *ram = vm.ram;
	uint64_t *pte = scene_pte(&vm, VM_CODE);

	for (unsigned int i = 0; i < 4096; i++) {
		ram[VM_FREE + i] = ram[VM_CODE + i];
	}
	ram[VM_FREE + PAYLOAD_AT(mapped, mapped_loop) - VM_CODE + 1] = 0x13; /* EDX */
	expect_mmio_write(vcpu, VM_HOLE, 4, 0x33);
	expect_mmio_write(vcpu, VM_HOLE, 4, 0x33);
	complete_only(vcpu);
	*pte = VM_FREE | 0x7;
	struct kvm_sregs sregs = vcpu_sregs(vcpu);
	vcpu_set_sregs(vcpu, &sregs);
	expect_mmio_write(vcpu, VM_HOLE, 4, 0x44);
	expect_mmio_write(vcpu, VM_HOLE, 4, 0x44);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

#define SPEC	  "KVM API 5, KVM_EXIT_MMIO"
#define SPEC_MOV  "AMD APM vol. 3, MOV, MOVSX, MOVSXD, MOVZX; " SPEC
#define SPEC_CMP  "AMD APM vol. 3, CMP"
#define SPEC_TEST "AMD APM vol. 3, TEST"

const struct test_case mmio_again_cases[] = {
	{"mmio_again/stores", SPEC_MOV, stores_again},
	{"mmio_again/loads", SPEC_MOV, loads_again},
	{"mmio_again/add", "AMD APM vol. 3, ADD", add_again},
	{"mmio_again/sub", "AMD APM vol. 3, SUB", sub_again},
	{"mmio_again/and", "AMD APM vol. 3, AND", and_again},
	{"mmio_again/or", "AMD APM vol. 3, OR", or_again},
	{"mmio_again/xor", "AMD APM vol. 3, XOR", xor_again},
	{"mmio_again/cmp", SPEC_CMP, cmp_again},
	{"mmio_again/cmp_register", SPEC_CMP, cmp_register_again},
	{"mmio_again/cmp_constant", SPEC_CMP, cmp_constant_again},
	{"mmio_again/test_register", SPEC_TEST, test_register_again},
	{"mmio_again/test_constant", SPEC_TEST, test_constant_again},
	{"mmio_again/another_instruction", SPEC, another_instruction},
	{"mmio_again/another_operand", SPEC, another_operand},
	{"mmio_again/another_page", SPEC, another_page},
	TEST_END,
};
