/* IN and OUT: which port, which width, which value, and what of the registers stays. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define RAX 0x1122334455667788

PAYLOAD(16, outs16,
	"mov $0x55667788, %eax; out %al, $0x10; out %ax, $0x12; out %eax, $0x14;"
	"mov $0x1234, %dx; out %al, %dx; out %ax, %dx; out %eax, %dx; hlt");
PAYLOAD(32, outs32,
	"mov $0x55667788, %eax; out %al, $0x10; out %ax, $0x12; out %eax, $0x14;"
	"mov $0x1234, %dx; out %al, %dx; out %ax, %dx; out %eax, %dx; hlt");
PAYLOAD(64, outs64,
	"movabs $0x1122334455667788, %rax; out %al, $0x10; out %ax, $0x12; out %eax, $0x14;"
	"mov $0x1234, %dx; out %al, %dx; out %ax, %dx; out %eax, %dx; hlt");

static void writes(int bits, const char *code, const char *code_end)
{
	struct vm vm;
	struct vcpu *vcpu = vm_begin(&vm, IRQCHIP_NONE, bits, code, code_end);

	expect_steps(vcpu, OUT(0x10, 1, 0x88), OUT(0x12, 2, 0x7788), OUT(0x14, 4, 0x55667788),
		     OUT(0x1234, 1, 0x88), OUT(0x1234, 2, 0x7788), OUT(0x1234, 4, 0x55667788));
}

static void writes_real_mode(void)
{
	writes(16, outs16, outs16_end);
}

static void writes_protected_mode(void)
{
	writes(32, outs32, outs32_end);
}

static void writes_long_mode(void)
{
	writes(64, outs64, outs64_end);
}

/* Each result is pushed, 8 bytes. */
#define INS64                                                                                 \
	"movabs $0x1122334455667788, %rbx; mov $0x1234, %dx;"                                 \
	"mov %rbx, %rax; in $0x10, %al; push %rax; mov %rbx, %rax; in $0x12, %ax; push %rax;" \
	"mov %rbx, %rax; in $0x14, %eax; push %rax; mov %rbx, %rax; in %dx, %al; push %rax;"  \
	"mov %rbx, %rax; in %dx, %ax; push %rax; mov %rbx, %rax; in %dx, %eax; push %rax; hlt"
PAYLOAD(64, ins64, INS64);

static void read_all(struct vcpu *vcpu)
{
	expect_steps(vcpu, IN(0x10, 1, 0xa1), IN(0x12, 2, 0xa1a2), IN(0x14, 4, 0xa1a2a3a4),
		     IN(0x1234, 1, 0xb1), IN(0x1234, 2, 0xb1b2), IN(0x1234, 4, 0xb1b2b3b4));
}

/* What was pushed as the @n-th, from 0. */
static uint64_t pushed(struct vm *vm, unsigned int n)
{
	return *scene_word(vm, VM_STACK - 8 * (n + 1));
}

static void in_8_keeps_the_rest(void)
{
	struct vm vm;

	read_all(START(&vm, 64, ins64));
	expect_eq(pushed(&vm, 0), 0x11223344556677a1);
	expect_eq(pushed(&vm, 3), 0x11223344556677b1);
}

static void in_16_keeps_the_rest(void)
{
	struct vm vm;

	read_all(START(&vm, 64, ins64));
	expect_eq(pushed(&vm, 1), 0x112233445566a1a2);
	expect_eq(pushed(&vm, 4), 0x112233445566b1b2);
}

static void in_32_clears_the_upper_half(void)
{
	struct vm vm;

	read_all(START(&vm, 64, ins64));
	expect_eq(pushed(&vm, 2), 0xa1a2a3a4);
	expect_eq(pushed(&vm, 5), 0xb1b2b3b4);
}

PAYLOAD(16, ins16,
	"mov $0x55667788, %ebx; mov $0x1234, %dx; mov %ebx, %eax; in $0x10, %al; mov %eax, %esi;"
	"mov %ebx, %eax; in %dx, %ax; mov %eax, %edi; in %dx, %eax; hlt");
PAYLOAD(32, ins32,
	"mov $0x55667788, %ebx; mov $0x1234, %dx; mov %ebx, %eax; in $0x10, %al; mov %eax, %esi;"
	"mov %ebx, %eax; in %dx, %ax; mov %eax, %edi; in %dx, %eax; hlt");

static void reads(int bits, const char *code, const char *code_end)
{
	struct vm vm;
	struct vcpu *vcpu = vm_begin(&vm, IRQCHIP_NONE, bits, code, code_end);
	struct kvm_regs regs;

	expect_steps(vcpu, IN(0x10, 1, 0xa1), IN(0x1234, 2, 0xb1b2), IN(0x1234, 4, 0xc1c2c3c4));
	regs = vcpu_regs(vcpu);
	expect_eq(regs.rsi, 0x556677a1);
	expect_eq(regs.rdi, 0x5566b1b2);
	expect_eq(regs.rax, 0xc1c2c3c4);
}

static void reads_real_mode(void)
{
	reads(16, ins16, ins16_end);
}

static void reads_protected_mode(void)
{
	reads(32, ins32, ins32_end);
}

PAYLOAD(64, far_ports,
	"mov $0xffffffff80011234, %rdx; out %al, %dx; out %al, $0xff; out %ax, $0x80; in $0xfe, "
	"%al; hlt");

static void port_is_dx_or_a_byte(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, far_ports);

	expect_steps(vcpu, OUT(0x1234, 1, 0), OUT(0xff, 1, 0), OUT(0x80, 2, 0), IN(0xfe, 1, 0));
}

PAYLOAD(64, odd_ports,
	"mov $0x33221100, %eax; mov $0x3f9, %dx; out %ax, %dx; out %eax, %dx; mov $0x3fb, %dx;"
	"out %eax, %dx; in %dx, %ax; hlt");

static void unaligned_is_one_access(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, odd_ports);

	expect_steps(vcpu, OUT(0x3f9, 2, 0x1100), OUT(0x3f9, 4, 0x33221100),
		     OUT(0x3fb, 4, 0x33221100), IN(0x3fb, 2, 0xffff));
}

PAYLOAD(64, last_port,
	"mov $0x33221100, %eax; mov $0xffff, %dx; out %eax, %dx; in %dx, %ax; in %dx, %eax; hlt");

static void last_port_four_bytes(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, last_port);

	expect_steps(vcpu, OUT(0xffff, 4, 0x33221100), IN(0xffff, 2, 0x4444),
		     IN(0xffff, 4, 0x77665544));
	expect_eq(vcpu_regs(vcpu).rax, 0x77665544);
}

static void data_lies_in_the_run_structure(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, outs64);

	expect_out(vcpu, 0x10, 1, 0x88);
	expect(vcpu->run->io.data_offset >= sizeof(struct kvm_run));
	expect(vcpu->run->io.data_offset + 4 <= vm.run_bytes);
}

PAYLOAD(64, one_in, "in $0x10, %eax; one_in_after: nop; hlt");
extern const char one_in_after[];

static void immediate_exit_completes_in(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, one_in);

	expect_in(vcpu, 0x10, 4, 0xa1a2a3a4);
	complete_only(vcpu);
	expect_eq(vcpu_regs(vcpu).rax, 0xa1a2a3a4);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(one_in, one_in_after));
}

PAYLOAD(64, one_out, "out %eax, $0x10; one_out_after: nop; hlt");
extern const char one_out_after[];

static void immediate_exit_completes_out(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, one_out);

	expect_out(vcpu, 0x10, 4, 0);
	complete_only(vcpu);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(one_out, one_out_after));
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void in_is_delivered_once(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, one_in);
	struct kvm_regs regs;

	expect_in(vcpu, 0x10, 4, 0xa1a2a3a4);
	complete_only(vcpu);
	memset((char *)vcpu->run + vcpu->run->io.data_offset, 0x55, 4);
	regs = vcpu_regs(vcpu);
	regs.rax = RAX;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, RAX);
}

PAYLOAD(64, byte_in, "in $0x10, %al; hlt");

static void set_regs_before_completion(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, byte_in);
	struct kvm_regs regs;

	expect_in(vcpu, 0x10, 1, 0xa1);
	regs = vcpu_regs(vcpu);
	regs.rax = RAX;
	regs.rbx = 0xb;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x11223344556677a1);
	expect_eq(vcpu_regs(vcpu).rbx, 0xb);
}

/* A reset by port leaves the access that asked for it behind. */
PAYLOAD(64, move_out,
	"out %al, $0x64; mov $1, %ecx; hlt; move_out_to: inc %ebx; in $0x60, %eax; mov $1, %ecx;"
	"hlt; move_in_to: inc %ebx; hlt");
extern const char move_out_to[], move_in_to[];

static void moved_rip_is_not_skipped(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, move_out);

	expect_out(vcpu, 0x64, 1, 0);
	scene_set_rip(vcpu, PAYLOAD_AT(move_out, move_out_to));
	expect_in(vcpu, 0x60, 4, 0xa1a2a3a4);
	scene_set_rip(vcpu, PAYLOAD_AT(move_out, move_in_to));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rbx, 2);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
	expect_eq(vcpu_regs(vcpu).rax, 0);
}

/* ---- who may ---- */

#define BITMAP	     0x68 /* offset in the TSS */
#define BITMAP_BYTES 0x20

PAYLOAD(64, user_io,
	"out %al, $0x50; in $0x50, %ax; out %eax, $0x50; user_io_more: mov $0x57, %dx; out %ax, "
	"%dx; mov $0x50, %dx; outsl; hlt; user_io_gp: mov (%rsp), %rax; mov 8(%rsp), %rbx; hlt;"
	"user_io_enter: mov $0x58, %ax; ltr %ax; xor %eax, %eax; iretq");
extern const char user_io_more[], user_io_gp[], user_io_enter[];

static struct vcpu *start_user_io(struct vm *vm, uint64_t rflags)
{
	struct vcpu *vcpu = START(vm, 64, user_io);
	struct kvm_regs regs;

	vm_gate(vm, 64, 13, PAYLOAD_AT(user_io, user_io_gp));
	scene_user(vcpu, rflags);
	regs = vcpu_regs(vcpu);
	regs.rsi = VM_FREE;
	regs.rax = 0;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

/* The same with a TSS that has a bitmap for ports 0 to 0xff, all allowed, and the byte of ones
 * behind it. The guest itself loads TR and goes to CPL 3. */
static struct vcpu *start_with_bitmap(struct vm *vm, uint64_t rip, uint8_t **bitmap)
{
	struct vcpu *vcpu = START(vm, 64, user_io);
	struct kvm_regs regs = vcpu_regs(vcpu);
	const uint64_t frame[] = {rip, SEL_USER_CODE64, 2, VM_STACK, SEL_USER_DATA};
	uint64_t stack = USER_STACK0;
	uint8_t *tss = vm->ram + VM_TSS, *gdt = vm->ram + VM_GDT;

	memcpy(vm->ram + USER_STACK0 - sizeof(frame), frame, sizeof(frame));
	regs.rip = PAYLOAD_AT(user_io, user_io_enter);
	regs.rsp = USER_STACK0 - sizeof(frame);
	regs.rsi = VM_FREE;
	vcpu_set_regs(vcpu, &regs);
	vm_gate(vm, 64, 13, PAYLOAD_AT(user_io, user_io_gp));
	gdt[SEL_TSS] = BITMAP + BITMAP_BYTES; /* limit */
	gdt[SEL_TSS + 5] = 0x89;	      /* not busy */
	memcpy(tss + 4, &stack, sizeof(stack));
	tss[0x66] = BITMAP;
	tss[BITMAP + BITMAP_BYTES] = 0xff;
	*bitmap = tss + BITMAP;
	return vcpu;
}

static void expect_gp(struct vcpu *vcpu)
{
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rip & ~UINT64_C(0xff), VM_CODE);
	expect_eq(vcpu_regs(vcpu).rax, 0);
	expect_eq(vcpu_sregs(vcpu).cs.selector, SEL_CODE64);
}

static void iopl_0_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_user_io(&vm, 0);

	expect_gp(vcpu);
	expect_eq(vcpu_regs(vcpu).rbx, VM_CODE);
}

static void iopl_3_is_allowed(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_user_io(&vm, FLAGS_IO);

	expect_out(vcpu, 0x50, 1, 0);
	expect_in(vcpu, 0x50, 2, 0);
	expect_out(vcpu, 0x50, 4, 0);
}

static void bitmap_allows(void)
{
	struct vm vm;
	uint8_t *bitmap;
	struct vcpu *vcpu = start_with_bitmap(&vm, VM_CODE, &bitmap);

	*scene_word(&vm, VM_FREE) = 0x44332211;
	expect_out(vcpu, 0x50, 1, 0);
	expect_in(vcpu, 0x50, 2, 0);
	expect_out(vcpu, 0x50, 4, 0);
	expect_out(vcpu, 0x57, 2, 0);
	expect_out(vcpu, 0x50, 4, 0x44332211);
}

/* Every byte of the access counts. */
static void bitmap_refuses_any_byte(void)
{
	struct vm vm;
	uint8_t *bitmap;
	struct vcpu *vcpu = start_with_bitmap(&vm, VM_CODE, &bitmap);

	bitmap[0x50 / 8] = 1 << 3;
	expect_out(vcpu, 0x50, 1, 0);
	expect_in(vcpu, 0x50, 2, 0);
	expect_gp(vcpu);
	expect_eq(vcpu_regs(vcpu).rbx, VM_CODE + 2 + 3);
}

static void bitmap_refuses_across_its_bytes(void)
{
	struct vm vm;
	uint8_t *bitmap;
	uint64_t more = PAYLOAD_AT(user_io, user_io_more);
	struct vcpu *vcpu = start_with_bitmap(&vm, more, &bitmap);

	bitmap[0x58 / 8] = 1;
	expect_gp(vcpu);
	expect_eq(vcpu_regs(vcpu).rbx, more + 4);
}

static void bitmap_refuses_strings(void)
{
	struct vm vm;
	uint8_t *bitmap;
	uint64_t more = PAYLOAD_AT(user_io, user_io_more);
	struct vcpu *vcpu = start_with_bitmap(&vm, more, &bitmap);

	bitmap[0x50 / 8] = 1 << 2;
	expect_out(vcpu, 0x57, 2, 0);
	expect_gp(vcpu);
	expect_eq(vcpu_regs(vcpu).rbx, more + 10);
	expect_eq(vcpu_regs(vcpu).rsi, VM_FREE);
}

/* An access needs the two bytes of the bitmap from its own on, both within the limit. */
static void bitmap_ends_at_the_limit(void)
{
	struct vm vm;
	uint8_t *bitmap;
	struct vcpu *vcpu = start_with_bitmap(&vm, VM_CODE, &bitmap);

	vm.ram[VM_GDT + SEL_TSS] = BITMAP + 0x50 / 8;
	expect_gp(vcpu);
	expect_eq(vcpu_regs(vcpu).rbx, VM_CODE);
}

const struct test_case pio_cases[] = {
	{"pio/writes_real_mode", "AMD APM vol. 3, OUT; KVM API 5, KVM_EXIT_IO", writes_real_mode},
	{"pio/writes_protected_mode", "AMD APM vol. 3, OUT; KVM API 5", writes_protected_mode},
	{"pio/writes_long_mode", "AMD APM vol. 3, OUT; KVM API 5", writes_long_mode},
	{"pio/reads_real_mode", "AMD APM vol. 3, IN; KVM API 5", reads_real_mode},
	{"pio/reads_protected_mode", "AMD APM vol. 3, IN; KVM API 5", reads_protected_mode},
	{"pio/in_8_keeps_the_rest", "AMD APM vol. 3, IN", in_8_keeps_the_rest},
	{"pio/in_16_keeps_the_rest", "AMD APM vol. 3, IN", in_16_keeps_the_rest},
	{"pio/in_32_clears_the_upper_half", "AMD APM vol. 1, 3.1.2", in_32_clears_the_upper_half},
	{"pio/port_is_dx_or_a_byte", "AMD APM vol. 3, OUT", port_is_dx_or_a_byte},
	{"pio/unaligned_is_one_access", "KVM API 5, KVM_EXIT_IO", unaligned_is_one_access},
	{"pio/last_port_four_bytes", "KVM API 5, KVM_EXIT_IO", last_port_four_bytes},
	{"pio/data_lies_in_the_run_structure", "KVM API 5, KVM_EXIT_IO",
	 data_lies_in_the_run_structure},
	{"pio/immediate_exit_completes_in", "KVM API 5, KVM_EXIT_IO", immediate_exit_completes_in},
	{"pio/immediate_exit_completes_out", "KVM API 5, KVM_EXIT_IO",
	 immediate_exit_completes_out},
	{"pio/in_is_delivered_once", "KVM API 5, KVM_EXIT_IO", in_is_delivered_once},
	{"pio/set_regs_before_completion", "KVM API 4.12", set_regs_before_completion},
	{"pio/moved_rip_is_not_skipped", "KVM API 4.12", moved_rip_is_not_skipped},
	{"pio/iopl_0_is_refused", "AMD APM vol. 1, 3.8.3", iopl_0_is_refused},
	{"pio/iopl_3_is_allowed", "AMD APM vol. 1, 3.8.3", iopl_3_is_allowed},
	{"pio/bitmap_allows", "AMD APM vol. 2, 12.2.5", bitmap_allows},
	{"pio/bitmap_refuses_any_byte", "AMD APM vol. 2, 12.2.5", bitmap_refuses_any_byte},
	{"pio/bitmap_refuses_across_its_bytes", "AMD APM vol. 2, 12.2.5",
	 bitmap_refuses_across_its_bytes},
	{"pio/bitmap_refuses_strings", "AMD APM vol. 2, 12.2.5", bitmap_refuses_strings},
	{"pio/bitmap_ends_at_the_limit", "AMD APM vol. 2, 12.2.5", bitmap_ends_at_the_limit},
	TEST_END,
};
