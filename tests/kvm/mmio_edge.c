/* Memory without a slot, at the edges: page boundaries, faults, interrupts, what cannot be done. */
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

/* Two pages next to each other in the guest's addresses; each case maps them as it likes. */
#define PAGES  UINT64_C(0x400000)
#define FAR    (VM_HOLE + 0x5000)
#define VALUE  UINT64_C(0x1122334455667788)
#define ACROSS "mov $0x400ffc, %ebx; movabs $0x1122334455667788, %rax;"

/* Memory-mapped I/O of @bytes, in one exit or several from the lowest address up. */
static void mmio_parts(struct vcpu *vcpu, bool write, uint64_t gpa, uint32_t bytes, uint64_t value)
{
	uint8_t data[8];

	memcpy(data, &value, sizeof(data));
	for (uint32_t done = 0; done < bytes; done += vcpu->run->mmio.len) {
		expect_exit(vcpu, KVM_EXIT_MMIO);
		expect_eq(vcpu->run->mmio.is_write, write);
		expect_eq(vcpu->run->mmio.phys_addr, gpa + done);
		expect(vcpu->run->mmio.len >= 1 && vcpu->run->mmio.len <= bytes - done);
		if (write) {
			expect(memcmp(vcpu->run->mmio.data, data + done, vcpu->run->mmio.len) == 0);
		} else {
			memcpy(vcpu->run->mmio.data, data + done, vcpu->run->mmio.len);
		}
	}
}

static void map_pages(struct vm *vm, uint64_t first, uint64_t second)
{
	*scene_pte(vm, PAGES) = first | 0x7;
	*scene_pte(vm, PAGES + 0x1000) = second == 0 ? 0 : second | 0x7;
}

PAYLOAD(64, unaligned,
	"mov $0xd0000005, %ebx; movabs $0x1122334455667788, %rax; mov %rax, (%rbx);"
	"mov (%rbx), %rcx; mov %eax, 1(%rbx); mov %ax, 2(%rbx); hlt");

static void unaligned_accesses(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, unaligned);

	mmio_parts(vcpu, true, VM_HOLE + 5, 8, VALUE);
	mmio_parts(vcpu, false, VM_HOLE + 5, 8, 0x8182838485868788);
	mmio_parts(vcpu, true, VM_HOLE + 6, 4, VALUE);
	mmio_parts(vcpu, true, VM_HOLE + 7, 2, VALUE);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 0x8182838485868788);
}

PAYLOAD(64, store_across, ACROSS "mov %rax, (%rbx); hlt; store_across_pf: pop %rcx; hlt");
PAYLOAD(64, load_across, ACROSS "mov (%rbx), %rax; hlt");
extern const char store_across_pf[];

static void store_ram_to_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_across);

	map_pages(&vm, VM_FREE, VM_HOLE);
	mmio_parts(vcpu, true, VM_HOLE, 4, VALUE >> 32);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(*scene_word(&vm, VM_FREE + 0xff8), VALUE << 32);
	expect_eq(*scene_word(&vm, VM_FREE + 0x1000), 0);
}

static void store_device_to_ram(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_across);

	map_pages(&vm, VM_HOLE, VM_FREE);
	mmio_parts(vcpu, true, VM_HOLE + 0xffc, 4, VALUE);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(*scene_word(&vm, VM_FREE), VALUE >> 32);
}

static void store_device_to_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_across);

	map_pages(&vm, VM_HOLE, FAR);
	mmio_parts(vcpu, true, VM_HOLE + 0xffc, 4, VALUE);
	mmio_parts(vcpu, true, FAR, 4, VALUE >> 32);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void load_ram_to_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_across);

	map_pages(&vm, VM_FREE, VM_HOLE);
	*scene_word(&vm, VM_FREE + 0xff8) = 0x55667788ffffffff;
	mmio_parts(vcpu, false, VM_HOLE, 4, 0x81828384);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x8182838455667788);
}

static void load_device_to_ram(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_across);

	map_pages(&vm, VM_HOLE, VM_FREE);
	*scene_word(&vm, VM_FREE) = 0xffffffff55667788;
	mmio_parts(vcpu, false, VM_HOLE + 0xffc, 4, 0x81828384);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x5566778881828384);
}

static void load_device_to_device(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_across);

	map_pages(&vm, VM_HOLE, FAR);
	mmio_parts(vcpu, false, VM_HOLE + 0xffc, 4, 0x81828384);
	mmio_parts(vcpu, false, FAR, 4, 0x91929394);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x9192939481828384);
}

/* No part of a store is done if another part faults. */
static void fault_in_the_second_page(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_across);

	map_pages(&vm, VM_HOLE, 0);
	vm_gate(&vm, 64, 14, PAYLOAD_AT(store_across, store_across_pf));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 2);
	expect_eq(vcpu_sregs(vcpu).cr2, PAGES + 0x1000);
}

PAYLOAD(64, copy,
	"mov $0xd0000000, %esi; mov $0x401000, %edi; movsl; hlt;"
	"copy_pf: pop %rcx; hlt; iretq");
extern const char copy_pf[];

/* How often the device is read until then is not said; the restarted instruction reads anew. */
static void fault_after_the_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, copy);
	int result;

	map_pages(&vm, VM_FREE, 0);
	vm_gate(&vm, 64, 14, PAYLOAD_AT(copy, copy_pf));
	while ((result = vcpu_run(vcpu)) == KVM_EXIT_MMIO) {
		memset(vcpu->run->mmio.data, 0x11, 4);
	}
	expect_eq(result, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 2);
	expect_eq(vcpu_regs(vcpu).rsi, VM_HOLE);
	expect_eq(vcpu_regs(vcpu).rdi, PAGES + 0x1000);
	map_pages(&vm, VM_FREE, VM_FREE);
	expect_steps(vcpu, R(0, 4, 0x22222222));
	expect_eq(*scene_word(&vm, VM_FREE), 0x22222222);
	expect_eq(vcpu_regs(vcpu).rdi, PAGES + 0x1004);
}

PAYLOAD(64, one_load, "mov $0xd0000000, %ebx; mov (%rbx), %eax; one_load_after: nop; hlt");
PAYLOAD(64, one_store, "mov $0xd0000000, %ebx; mov %eax, (%rbx); one_store_after: nop; hlt");
extern const char one_load_after[], one_store_after[];

static void read_is_delivered_once(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, one_load);
	struct kvm_regs regs;

	expect_mmio_read(vcpu, VM_HOLE, 4, 0x81828384);
	complete_only(vcpu);
	regs = vcpu_regs(vcpu);
	expect_eq(regs.rax, 0x81828384);
	expect_eq(regs.rip, PAYLOAD_AT(one_load, one_load_after));
	memset(vcpu->run->mmio.data, 0x55, 4);
	regs.rax = 1;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 1);
}

static void immediate_exit_completes_a_write(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, one_store);

	expect_mmio_write(vcpu, VM_HOLE, 4, 0);
	complete_only(vcpu);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(one_store, one_store_after));
	expect_exit(vcpu, KVM_EXIT_HLT);
}

PAYLOAD(64, interrupted,
	"mov $0xd0000000, %ebx; sti; nop; mov (%rbx), %eax; interrupted_after:"
	"mov $1, %ecx; hlt; interrupted_irq: mov (%rsp), %rdx; hlt");
extern const char interrupted_after[], interrupted_irq[];

static void interrupt_comes_after_the_access(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, interrupted);
	struct kvm_interrupt interrupt = {.irq = 0x40};

	vm_gate(&vm, 64, 0x40, PAYLOAD_AT(interrupted, interrupted_irq));
	expect_mmio_read(vcpu, VM_HOLE, 4, 0x81828384);
	expect_eq(vcpu->run->if_flag, 1);
	if (!vcpu->run->ready_for_interrupt_injection) {
		complete_only(vcpu);
		expect_eq(vcpu->run->ready_for_interrupt_injection, 1);
	}
	must(kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x81828384);
	expect_eq(vcpu_regs(vcpu).rdx, PAYLOAD_AT(interrupted, interrupted_after));
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

/* ---- where the instruction itself lies ---- */

PAYLOAD(64, at_page_end,
	"mov $0xd0000000, %ebx; mov $0x400ffe, %edx; jmp *%rdx;"
	"at_page_end_pf: pop %rcx; hlt");
extern const char at_page_end_pf[];

/* What lies behind the instruction is not looked at. */
static void code_ends_with_the_page(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, at_page_end);

	map_pages(&vm, VM_FREE, 0);
	vm_gate(&vm, 64, 14, PAYLOAD_AT(at_page_end, at_page_end_pf));
	memcpy(vm.ram + VM_FREE + 0xffe, "\x88\x03", 2); /* mov %al, (%rbx) */
	expect_steps(vcpu, W(0, 1, 0));
	expect_eq(vcpu_sregs(vcpu).cr2, PAGES + 0x1000);
}

PAYLOAD(64, code_crosses, "mov $0xd0000000, %ebx; mov $0x400ffd, %edx; jmp *%rdx");

static void code_crosses_a_page(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, code_crosses);

	map_pages(&vm, VM_FREE + 0x3000, VM_FREE);
	/* movl $0x44332211, (%rbx); hlt */
	memcpy(vm.ram + VM_FREE + 0x3ffd, "\xc7\x03\x11", 3);
	memcpy(vm.ram + VM_FREE, "\x22\x33\x44\xf4", 4);
	expect_steps(vcpu, W(0, 4, 0x44332211));
}

/* ---- what cannot be done ---- */

PAYLOAD(64, too_much,
	"mov $0xd0000000, %ebx; too_much_insn: mulps (%rbx), %xmm0; hlt;"
	"too_much_ud: mov (%rsp), %rcx; hlt");
extern const char too_much_insn[], too_much_ud[];

/* An instruction that few emulate. Return: what the vCPU did. */
static int run_too_much(struct vcpu *vcpu)
{
	int result;

	vm_gate(vcpu->vm, 64, 6, PAYLOAD_AT(too_much, too_much_ud));
	result = vcpu_run(vcpu);
	if (result == KVM_EXIT_MMIO) {
		test_skip("the provider emulates MULPS");
	}
	return result;
}

static void not_emulated_is_an_internal_error(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, too_much);

	expect_eq(run_too_much(vcpu), KVM_EXIT_INTERNAL_ERROR);
	expect_eq(vcpu->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(too_much, too_much_insn));
}

static void not_emulated_for_a_user_is_undefined(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, too_much);

	scene_user(vcpu, 0);
	expect_eq(run_too_much(vcpu), KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, PAYLOAD_AT(too_much, too_much_insn));
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(too_much, too_much_ud) + 5);
}

static void exit_on_emulation_failure(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, too_much);
	struct kvm_enable_cap cap = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};

	vm_need(&vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, "KVM_CAP_EXIT_ON_EMULATION_FAILURE");
	must(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap));
	scene_user(vcpu, 0);
	expect_eq(run_too_much(vcpu), KVM_EXIT_INTERNAL_ERROR);
	expect_eq(vcpu->run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(too_much, too_much_insn));
	if (vcpu->run->emulation_failure.ndata >= 4 &&
	    (vcpu->run->emulation_failure.flags &
	     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
		expect(vcpu->run->emulation_failure.insn_size >= 3);
		expect(memcmp(vcpu->run->emulation_failure.insn_bytes, too_much_insn, 3) == 0);
	}
}

PAYLOAD(64, fetch, "mov $0xd0000000, %ebx; jmp *%rbx");

static void code_in_a_hole(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, fetch);

	expect_exit(vcpu, KVM_EXIT_INTERNAL_ERROR);
	expect_eq(vcpu->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	expect_eq(vcpu_regs(vcpu).rip, VM_HOLE);
}

#define SPEC "KVM API 5, KVM_EXIT_MMIO"

const struct test_case mmio_edge_cases[] = {
	{"mmio/unaligned", SPEC, unaligned_accesses},
	{"mmio/store_ram_to_device", SPEC, store_ram_to_device},
	{"mmio/store_device_to_ram", SPEC, store_device_to_ram},
	{"mmio/store_device_to_device", SPEC, store_device_to_device},
	{"mmio/load_ram_to_device", SPEC, load_ram_to_device},
	{"mmio/load_device_to_ram", SPEC, load_device_to_ram},
	{"mmio/load_device_to_device", SPEC, load_device_to_device},
	{"mmio/fault_in_the_second_page", "AMD APM vol. 2, 8.2.15", fault_in_the_second_page},
	{"mmio/fault_after_the_read", "AMD APM vol. 2, 8.2.15", fault_after_the_read},
	{"mmio/read_is_delivered_once", SPEC, read_is_delivered_once},
	{"mmio/immediate_exit_completes_a_write", SPEC, immediate_exit_completes_a_write},
	{"mmio/interrupt_comes_after_the_access", "AMD APM vol. 2, 8.5",
	 interrupt_comes_after_the_access},
	{"mmio/code_ends_with_the_page", SPEC, code_ends_with_the_page},
	{"mmio/code_crosses_a_page", SPEC, code_crosses_a_page},
	{"mmio/not_emulated_is_an_internal_error", "KVM API 5, KVM_EXIT_INTERNAL_ERROR",
	 not_emulated_is_an_internal_error},
	{"mmio/not_emulated_for_a_user_is_undefined", "KVM API 7.27",
	 not_emulated_for_a_user_is_undefined},
	{"mmio/exit_on_emulation_failure", "KVM API 7.27", exit_on_emulation_failure},
	{"mmio/code_in_a_hole", "KVM API 5, KVM_EXIT_INTERNAL_ERROR", code_in_a_hole},
	TEST_END,
};
