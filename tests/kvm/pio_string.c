/* INS and OUTS. A provider may hand over as many elements in one exit as it likes. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define PORT 0x1f0

/* The pending exit: it must be one of at most @elements. Return: of how many. */
static uint32_t take(struct vcpu *vcpu, uint8_t direction, uint8_t bytes, uint8_t *data,
		     uint32_t elements)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *page = (uint8_t *)run + run->io.data_offset;

	expect_eq(run->exit_reason, KVM_EXIT_IO);
	expect_eq(run->io.direction, direction);
	expect_eq(run->io.port, PORT);
	expect_eq(run->io.size, bytes);
	expect(run->io.count >= 1 && run->io.count <= elements);
	expect(run->io.data_offset + run->io.count * bytes <= vcpu->vm->run_bytes);
	if (direction == KVM_EXIT_IO_OUT) {
		memcpy(data, page, run->io.count * bytes);
	} else {
		memcpy(page, data, run->io.count * bytes);
	}
	return run->io.count;
}

/* Runs until so many elements of @bytes have gone to or come from @data. */
static void transfer(struct vcpu *vcpu, uint8_t direction, uint8_t bytes, void *data,
		     uint32_t elements)
{
	uint8_t *at = data;

	while (elements > 0) {
		uint32_t count;

		expect_exit(vcpu, KVM_EXIT_IO);
		count = take(vcpu, direction, bytes, at, elements);
		at += count * bytes;
		elements -= count;
	}
}

/* @count bytes, no two neighbours and no two pages the same. */
static void pattern(uint8_t *data, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		data[i] = (uint8_t)(i * 7 + i / 256);
	}
}

static void set_string(struct vcpu *vcpu, uint64_t address, uint64_t count)
{
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rsi = regs.rdi = address;
	regs.rcx = count;
	regs.rdx = PORT;
	vcpu_set_regs(vcpu, &regs);
}

PAYLOAD(64, string1, "outsb; outsw; outsl; insb; insw; insl; hlt");

static void single_elements(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, string1);

	set_string(vcpu, VM_FREE, 9);
	*scene_word(&vm, VM_FREE) = 0x8877665544332211;
	expect_steps(vcpu, OUT(PORT, 1, 0x11), OUT(PORT, 2, 0x3322), OUT(PORT, 4, 0x77665544),
		     IN(PORT, 1, 0xa1), IN(PORT, 2, 0xa3a2), IN(PORT, 4, 0xa7a6a5a4));
	expect_eq(*scene_word(&vm, VM_FREE), 0x88a7a6a5a4a3a2a1);
	expect_eq(vcpu_regs(vcpu).rsi, VM_FREE + 7);
	expect_eq(vcpu_regs(vcpu).rdi, VM_FREE + 7);
	expect_eq(vcpu_regs(vcpu).rcx, 9);
}

PAYLOAD(64, rep_outsb, "rep outsb; hlt");
PAYLOAD(64, rep_outsw, "rep outsw; hlt");
PAYLOAD(64, rep_outsl, "rep outsl; hlt");
PAYLOAD(64, rep_insb, "rep insb; hlt");
PAYLOAD(64, rep_insw, "rep insw; hlt");
PAYLOAD(64, rep_insl, "rep insl; hlt");

/* More than a page, and than a provider hands over at once; not aligned. */
#define MANY   1600
#define BUFFER (VM_FREE + 0xffd)

static void repeated(uint8_t direction, uint8_t bytes, const char *code, const char *code_end)
{
	static uint8_t data[MANY * 4], want[MANY * 4];
	struct vm vm;
	struct vcpu *vcpu = vm_begin(&vm, IRQCHIP_NONE, 64, code, code_end);
	uint8_t *buffer = vm.ram + BUFFER;

	set_string(vcpu, BUFFER, MANY);
	pattern(want, sizeof(want));
	if (direction == KVM_EXIT_IO_OUT) {
		memcpy(buffer, want, sizeof(want));
		transfer(vcpu, direction, bytes, data, MANY);
		expect(memcmp(data, want, (size_t)MANY * bytes) == 0);
	} else {
		transfer(vcpu, direction, bytes, want, MANY);
	}
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(memcmp(buffer, want, (size_t)MANY * bytes) == 0);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
	expect_eq(direction == KVM_EXIT_IO_OUT ? vcpu_regs(vcpu).rsi : vcpu_regs(vcpu).rdi,
		  BUFFER + MANY * bytes);
	expect_eq(direction == KVM_EXIT_IO_OUT ? vcpu_regs(vcpu).rdi : vcpu_regs(vcpu).rsi, BUFFER);
	if (direction == KVM_EXIT_IO_IN) {
		expect_eq(buffer[-1], 0);
		expect_eq(buffer[MANY * bytes], 0);
	}
}

static void rep_outs_8(void)
{
	repeated(KVM_EXIT_IO_OUT, 1, rep_outsb, rep_outsb_end);
}

static void rep_outs_16(void)
{
	repeated(KVM_EXIT_IO_OUT, 2, rep_outsw, rep_outsw_end);
}

static void rep_outs_32(void)
{
	repeated(KVM_EXIT_IO_OUT, 4, rep_outsl, rep_outsl_end);
}

static void rep_ins_8(void)
{
	repeated(KVM_EXIT_IO_IN, 1, rep_insb, rep_insb_end);
}

static void rep_ins_16(void)
{
	repeated(KVM_EXIT_IO_IN, 2, rep_insw, rep_insw_end);
}

static void rep_ins_32(void)
{
	repeated(KVM_EXIT_IO_IN, 4, rep_insl, rep_insl_end);
}

PAYLOAD(64, down_outs, "std; rep outsw; hlt");
PAYLOAD(64, down_ins, "std; rep insw; hlt");

static void downwards(void)
{
	static const uint16_t words[] = {0x1111, 0x2222, 0x3333};
	uint16_t data[3] = {0};
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, down_outs);

	set_string(vcpu, VM_FREE + 4, 3);
	memcpy(vm.ram + VM_FREE, words, sizeof(words));
	transfer(vcpu, KVM_EXIT_IO_OUT, 2, data, 3);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(data[0] == 0x3333 && data[1] == 0x2222 && data[2] == 0x1111, true);
	expect_eq(vcpu_regs(vcpu).rsi, VM_FREE - 2);
	vcpu_start(vcpu, 64, down_ins, down_ins_end);
	set_string(vcpu, VM_FREE + 4, 3);
	transfer(vcpu, KVM_EXIT_IO_IN, 2, data, 3);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(memcmp(vm.ram + VM_FREE, words, sizeof(words)) == 0);
	expect_eq(vcpu_regs(vcpu).rdi, VM_FREE - 2);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

PAYLOAD(64, none_outs, "rep outsb; rep insl; hlt");

static void count_0_does_nothing(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, none_outs);

	/* The address is not even looked at. */
	set_string(vcpu, UINT64_C(1) << 40, 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rsi, UINT64_C(1) << 40);
	expect_eq(vcpu_regs(vcpu).rdi, UINT64_C(1) << 40);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

PAYLOAD(64, outs_a32, "addr32 rep outsb; hlt");

static void address_size_32(void)
{
	uint8_t data[3] = {0};
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, outs_a32);

	set_string(vcpu, 0xffffffff00000000 | VM_FREE, 0xffffffff00000003);
	memcpy(vm.ram + VM_FREE, "abc", 3);
	transfer(vcpu, KVM_EXIT_IO_OUT, 1, data, 3);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(memcmp(data, "abc", 3) == 0);
	expect_eq(vcpu_regs(vcpu).rsi, VM_FREE + 3);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

PAYLOAD(16, ins_16_bit, "rep insb; hlt");

static void address_size_16_wraps(void)
{
	uint8_t data[4] = {1, 2, 3, 4};
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 16, ins_16_bit);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.es.selector = VM_FREE >> 4;
	sregs.es.base = VM_FREE;
	vcpu_set_sregs(vcpu, &sregs);
	set_string(vcpu, 0xa0000fffe, 0xb00000004);
	transfer(vcpu, KVM_EXIT_IO_IN, 1, data, 4);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(memcmp(vm.ram + VM_FREE + 0xfffe, data, 2) == 0);
	expect(memcmp(vm.ram + VM_FREE, data + 2, 2) == 0);
	expect_eq(vcpu_regs(vcpu).rdi & 0xffff, 2);
	expect_eq(vcpu_regs(vcpu).rcx & 0xffff, 0);
}

PAYLOAD(32, segments, "fs outsb; fs insb; hlt");

static void outs_takes_the_prefix_ins_does_not(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 32, segments);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.fs.base = 0x1000;
	sregs.es.base = 0x2000;
	vcpu_set_sregs(vcpu, &sregs);
	set_string(vcpu, VM_FREE, 1);
	vm.ram[VM_FREE + 0x1000] = 0xf5;
	expect_steps(vcpu, OUT(PORT, 1, 0xf5), IN(PORT, 1, 0xe5));
	expect_eq(vm.ram[VM_FREE + 0x2000], 0xe5);
}

PAYLOAD(64, to_device, "outsw; insw; hlt");

static void memory_is_a_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, to_device);

	set_string(vcpu, VM_HOLE, 1);
	expect_steps(vcpu, R(0, 2, 0x2211), OUT(PORT, 2, 0x2211), IN(PORT, 2, 0x4433),
		     W(0, 2, 0x4433));
	expect_eq(vcpu_regs(vcpu).rsi, VM_HOLE + 2);
	expect_eq(vcpu_regs(vcpu).rdi, VM_HOLE + 2);
}

/* ---- faults on the way ---- */

#define ABSENT (VM_FREE + 0x1000)

#define WITH_FAULT(name, insn)                                                       \
	PAYLOAD(64, name,                                                            \
		insn "; " #name "_after: hlt; " #name "_pf: mov (%rsp), %rax; hlt; " \
		     "add $8, %rsp; iretq");                                         \
	extern const char name##_pf[], name##_after[]
WITH_FAULT(fault_outs, "rep outsb");
WITH_FAULT(fault_ins, "rep insb");

static void present(struct vm *vm)
{
	*scene_pte(vm, ABSENT) = ABSENT | 0x7;
}

static void outs_stops_at_a_fault(void)
{
	uint8_t data[8] = {0};
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, fault_outs);

	*scene_pte(&vm, ABSENT) = 0;
	vm_gate(&vm, 64, 14, PAYLOAD_AT(fault_outs, fault_outs_pf));
	memcpy(vm.ram + ABSENT - 3, "abcdefgh", 8);
	set_string(vcpu, ABSENT - 3, 8);
	transfer(vcpu, KVM_EXIT_IO_OUT, 1, data, 3);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0);
	expect_eq(vcpu_sregs(vcpu).cr2, ABSENT);
	expect_eq(vcpu_regs(vcpu).rsi, ABSENT);
	expect_eq(vcpu_regs(vcpu).rcx, 5);
	expect_eq(*scene_word(&vm, vcpu_regs(vcpu).rsp + 8), VM_CODE);
	present(&vm);
	transfer(vcpu, KVM_EXIT_IO_OUT, 1, data + 3, 5);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(memcmp(data, "abcdefgh", 8) == 0);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(fault_outs, fault_outs_after) + 1);
}

/* How much is read from the port for what cannot be stored is not said; what is stored is. */
static void ins_stops_at_a_fault(void)
{
	uint8_t data[8] = "xxxxxxxx";
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, fault_ins);
	int result;

	*scene_pte(&vm, ABSENT) = 0;
	vm_gate(&vm, 64, 14, PAYLOAD_AT(fault_ins, fault_ins_pf));
	set_string(vcpu, ABSENT - 3, 8);
	while ((result = vcpu_run(vcpu)) == KVM_EXIT_IO) {
		take(vcpu, KVM_EXIT_IO_IN, 1, data, 8);
	}
	expect_eq(result, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 2);
	expect_eq(vcpu_sregs(vcpu).cr2, ABSENT);
	expect_eq(vcpu_regs(vcpu).rdi, ABSENT);
	expect_eq(vcpu_regs(vcpu).rcx, 5);
	expect(memcmp(vm.ram + ABSENT - 3, "xxx\0", 4) == 0);
	present(&vm);
	while ((result = vcpu_run(vcpu)) == KVM_EXIT_IO) {
		take(vcpu, KVM_EXIT_IO_IN, 1, data, 5);
	}
	expect_eq(result, KVM_EXIT_HLT);
	expect(memcmp(vm.ram + ABSENT - 3, "xxxxxxxx\0", 9) == 0);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(fault_ins, fault_ins_after) + 1);
}

/* Between two exits the registers say how far it is. */
static void stops_in_the_middle(void)
{
	static uint8_t data[MANY * 4];
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, rep_insl);
	uint32_t done = 0;
	int result;

	pattern(data, sizeof(data));
	set_string(vcpu, BUFFER, MANY);
	expect_exit(vcpu, KVM_EXIT_IO);
	vcpu->run->immediate_exit = 1;
	do {
		done += take(vcpu, KVM_EXIT_IO_IN, 4, data + (size_t)4 * done, MANY - done);
	} while ((result = vcpu_run(vcpu)) == KVM_EXIT_IO);
	expect_errno(result, EINTR);
	vcpu->run->immediate_exit = 0;
	expect_eq(vcpu_regs(vcpu).rcx, MANY - done);
	expect_eq(vcpu_regs(vcpu).rdi, BUFFER + 4 * done);
	expect(memcmp(vm.ram + BUFFER, data, (size_t)4 * done) == 0);
	transfer(vcpu, KVM_EXIT_IO_IN, 4, data + (size_t)4 * done, MANY - done);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(memcmp(vm.ram + BUFFER, data, sizeof(data)) == 0);
}

#define SPEC_OUTS "AMD APM vol. 3, OUTS; KVM API 5, KVM_EXIT_IO"
#define SPEC_INS  "AMD APM vol. 3, INS; KVM API 5, KVM_EXIT_IO"

const struct test_case pio_string_cases[] = {
	{"pio/string_single_elements", SPEC_OUTS, single_elements},
	{"pio/rep_outs_8", SPEC_OUTS, rep_outs_8},
	{"pio/rep_outs_16", SPEC_OUTS, rep_outs_16},
	{"pio/rep_outs_32", SPEC_OUTS, rep_outs_32},
	{"pio/rep_ins_8", SPEC_INS, rep_ins_8},
	{"pio/rep_ins_16", SPEC_INS, rep_ins_16},
	{"pio/rep_ins_32", SPEC_INS, rep_ins_32},
	{"pio/string_downwards", "AMD APM vol. 3, INS", downwards},
	{"pio/string_count_0_does_nothing", "AMD APM vol. 3, 1.2.6", count_0_does_nothing},
	{"pio/string_address_size_32", "AMD APM vol. 3, 1.2.3", address_size_32},
	{"pio/string_address_size_16_wraps", "AMD APM vol. 3, INS", address_size_16_wraps},
	{"pio/string_segments", "AMD APM vol. 3, OUTS", outs_takes_the_prefix_ins_does_not},
	{"pio/string_memory_is_a_device", "KVM API 5", memory_is_a_device},
	{"pio/outs_stops_at_a_fault", "AMD APM vol. 3, 1.2.6", outs_stops_at_a_fault},
	{"pio/ins_stops_at_a_fault", "AMD APM vol. 3, 1.2.6", ins_stops_at_a_fault},
	{"pio/string_stops_in_the_middle", "KVM API 5, immediate_exit", stops_in_the_middle},
	TEST_END,
};
