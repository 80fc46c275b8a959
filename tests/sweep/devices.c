/*
 * Loops in 64-bit mode over all MSRs, all ports, all kinds of addresses, and SVM's instructions.
 * R12 is what it is at, R13 the end, R14 the step; each exception goes on at R15.
 */
#include <string.h>

#include "tests/sweep/sweep.h"

#define TICK_MS 100
#define FAR	(UINT64_C(1) << 39) /* where addresses above 4 GiB are mapped, 2 MiB each */
#define FAR_N	(2 * 31)

#define TEXT_(x) #x
#define TEXT(x)	 TEXT_(x)

/* The loop of all payloads: its head, its end, and what an exception does. */
#define HEAD                  \
	"1: cmp %r13, %r12\n" \
	"jae 9f\n"            \
	"mov %r12, " TEXT(0x2f450) "\n"
/* clang-format off */
#define TAIL(handler)                              \
	"add %r14, %r12\n"                         \
	"jmp 1b\n"                                 \
	"9: mov $" TEXT(0xd0000ff0) ", %eax\n"     \
	"mov %eax, (%rax)\n"                       \
	"hlt\n" #handler ": mov $0x2e000, %esp\n"  \
	"jmp *%r15\n"
/* clang-format on */
_Static_assert(SWEEP_PROGRESS == 0x2f450 && SWEEP_DONE == 0xd0000ff0 && SWEEP_STACKS == 0x2e000,
	       "as the payloads have them");

/* WRMSR of EDX:EAX, counted in EBP if it works. */
#define TRY_WRMSR(next)                \
	"lea " #next "f(%rip), %r15\n" \
	"wrmsr\n"                      \
	"inc %ebp\n" #next ":\n"

/* clang-format off */
PAYLOAD(64, msrs,
	HEAD
	"mov %r12d, %ecx\n"
	"xor %ebp, %ebp\n"
	"xor %r8d, %r8d\n"
	"xor %r9d, %r9d\n"
	"lea 2f(%rip), %r15\n"
	"rdmsr\n"
	"inc %ebp\n"
	"mov %eax, %r8d\n"
	"mov %edx, %r9d\n"
	"2: xor %eax, %eax\n"
	"xor %edx, %edx\n"
	TRY_WRMSR(3)
	"mov $-1, %eax\n"
	"mov $-1, %edx\n"
	TRY_WRMSR(3)
	"xor %edx, %edx\n"
	"bts %ecx, %eax\n"
	TRY_WRMSR(3)
	"test %ebp, %ebp\n"
	"jz 8f\n"
	"xor %r10d, %r10d\n"
	"4: mov %r10d, %ecx\n" /* one bit, alone and turned in what was there */
	"mov $1, %ebx\n"
	"shl %cl, %rbx\n"
	"mov %r12d, %ecx\n"
	"mov %ebx, %eax\n"
	"mov %rbx, %rdx\n"
	"shr $32, %rdx\n"
	TRY_WRMSR(3)
	"mov %r8d, %eax\n"
	"mov %r9d, %edx\n"
	"xor %ebx, %eax\n"
	"shr $32, %rbx\n"
	"xor %ebx, %edx\n"
	TRY_WRMSR(3)
	"inc %r10d\n"
	"cmp $64, %r10d\n"
	"jb 4b\n"
	"8: mov %r8d, %eax\n"
	"mov %r9d, %edx\n"
	TRY_WRMSR(3)
	TAIL(msrs_handler));
/* clang-format on */
extern const char msrs_handler[];

void sweep_msrs(void)
{
	static const struct {
		uint64_t first, end, step;
	} ranges[] = {
		{0, 0x2000, 1},
		{0x2000, 0x40000000, 0xfedcb},
		{0x40000000, 0x40002000, 1},
		{0x4b564d00, 0x4b564e00, 1},
		{0x40002000, 0xc0000000, 0xfedcb},
		{0xc0000000, 0xc0002000, 1},
		{0xc0010000, 0xc0012000, 1},
		{0xc0012000, 0x100000000, 0xfedcb},
	};
	static struct sweep s;
	static struct vm vm;

	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, msrs, msrs_end, msrs_handler, TICK_MS);
	s.msrs = true;
	sweep_watch(&s);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		sweep_loop(&s, ranges[i].first, ranges[i].end, ranges[i].step);
	}
	s.sregs.apic_base |= 0x400; /* x2APIC mode */
	sweep_loop(&s, 0x800, 0x900, 1);
	sweep_done(&s, "msrs", 35000);
}

PAYLOAD(64, ports,
	HEAD "mov %r12d, %edx\n"
	     "in %dx, %al\n"
	     "in %dx, %ax\n"
	     "in %dx, %eax\n"
	     "mov %r12d, %eax\n"
	     "ror $7, %eax\n"
	     "out %al, %dx\n"
	     "out %ax, %dx\n"
	     "out %eax, %dx\n" TAIL(ports_handler));
extern const char ports_handler[];

#define STRING(insn)           \
	"mov $2, %ecx\n"       \
	"mov $0x28100, %esi\n" \
	"mov $0x28200, %edi\n" \
	"rep " insn "\n"

PAYLOAD(64, strings,
	HEAD "mov %r12d, %edx\n" STRING("insb") STRING("insw") STRING("insl") STRING("outsb")
		STRING("outsw") STRING("outsl") TAIL(strings_handler));
extern const char strings_handler[];

static void loop_ports(const char *name, const char *code, const char *end, const char *handler,
		       bool all)
{
	static struct sweep s;
	static struct vm vm;

	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, code, end, handler, TICK_MS);
	sweep_watch(&s);
	sweep_loop(&s, 0, all ? 0x10000 : 0x400, 1);
	sweep_loop(&s, all ? 0x10000 : 0x400, 0x10000, 61);
	sweep_done(&s, name, all ? 65000 : 1000);
}

void sweep_ports(void)
{
	loop_ports("ports", ports, ports_end, ports_handler, true);
	loop_ports("strings", strings, strings_end, strings_handler, false);
}

/* Each kind of access there is, each of which may fault. */
#define TRY(insn)                        \
	"lea 2f(%rip), %r15\n" insn "\n" \
	"2:\n"

/* clang-format off */
PAYLOAD(64, places,
	HEAD
	TRY("movb %r12b, (%r12)")
	TRY("movw %r12w, (%r12)")
	TRY("movl %r12d, (%r12)")
	TRY("movq %r12, (%r12)")
	TRY("mov (%r12), %rax")
	TRY("lock incl (%r12)")
	TRY("xchg %r11, (%r12)")
	TRY("movups %xmm0, (%r12)")
	TRY("mov %r12, %rdi\n mov $2, %ecx\n rep stosl")
	TRY("lea 8(%r12), %rsp\n push %r12")
	"mov $0x2e000, %esp\n"
	TAIL(places_handler));
/* clang-format on */
extern const char places_handler[];

/* A register of 32 bits: nothing, ones, and each bit. */
/* clang-format off */
#define VALUES(register)              \
	"movl $0, " register "\n"     \
	"movl $-1, " register "\n"    \
	"mov $1, %eax\n"              \
	"3: mov %eax, " register "\n" \
	"mov " register ", %edx\n"    \
	"add %eax, %eax\n"            \
	"jnz 3b\n"

PAYLOAD(64, registers,
	HEAD
	"lea 2f(%rip), %r15\n"
	"mov $0xfee00000, %eax\n"
	"cmp %rax, %r12\n"
	"jae 4f\n"
	"mov $0xfec00000, %ebx\n" /* the IOAPIC: R12 is the number of its register */
	"mov %r12d, (%rbx)\n"
	"add $0x10, %ebx\n"
	"jmp 5f\n"
	"4: mov %r12, %rbx\n"
	"5:\n" VALUES("(%rbx)")
	"2:\n"
	TAIL(registers_handler));
/* clang-format on */
extern const char registers_handler[];

/* Physical addresses of one bit, and of two, up to where there are no more. */
static void map_far(struct sweep *s)
{
	uint64_t *pml4 = (uint64_t *)(s->image + VM_TABLES);
	uint64_t *pdpt = (uint64_t *)(s->image + 0x20000);
	uint64_t *pd = (uint64_t *)(s->image + 0x21000);

	pml4[1] = 0x20003;
	pdpt[0] = 0x21003;
	for (unsigned i = 0; i < FAR_N; i++) {
		uint64_t bit = UINT64_C(1) << (21 + i / 2);

		pd[i] = (i % 2 == 0 ? bit : bit | bit >> 1) | 0x83;
		pd[i] &= ~UINT64_C(0x100000); /* aligned */
	}
}

void sweep_places(void)
{
	static struct sweep s;
	static struct vm vm;

	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, places, places_end, places_handler, TICK_MS);
	map_far(&s);
	sweep_watch(&s);
	sweep_loop(&s, SWEEP_IMAGE + 0xab8, VM_RAM, 4096);
	sweep_loop(&s, VM_RAM + 0xffc, 2 * VM_RAM, 4096); /* over the ends of pages, too */
	sweep_loop(&s, 2 * VM_RAM, UINT64_C(1) << 32, (2 << 20) + 8);
	sweep_loop(&s, 0xfec00000, 0xfed01000, 4096);
	sweep_loop(&s, 0xfedff000, 0xfef01000, 4096);
	sweep_loop(&s, FAR + 0x1238, FAR + FAR_N * (UINT64_C(2) << 20), 2 << 20);
	sweep_done(&s, "places", 8000);
	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, registers, registers_end, registers_handler,
		    TICK_MS);
	sweep_watch(&s);
	sweep_loop(&s, 0, 256, 1);
	sweep_loop(&s, 0xfee00000, 0xfee01000, 4);
	sweep_done(&s, "registers", 1200);
}

/*
 * SVM's instructions and what sets modes, with EFER.SVME if that can be had: R12 / 64 is which, and
 * RAX an address, or what is turned in a register, of the bit R12 % 64.
 */
#define SVM_KINDS 17

#define KIND(n, insn) #n "0: " insn "\n jmp 2f\n"

/* clang-format off */
PAYLOAD(64, svm,
	HEAD
	TRY("mov $0xc0000080, %ecx\n rdmsr\n bts $12, %eax\n wrmsr")
	"lea 2f(%rip), %r15\n"
	"mov %r12d, %ecx\n"
	"mov $1, %r11d\n"
	"shl %cl, %r11\n"
	"shr $6, %ecx\n"
	"lea svm_kinds(%rip), %rdx\n"
	"movzwl (%rdx, %rcx, 2), %ecx\n"
	"add %rcx, %rdx\n"
	"mov %r11, %rax\n"
	"jmp *%rdx\n"
	"svm_kinds: .word 10f - svm_kinds, 20f - svm_kinds, 30f - svm_kinds\n"
	".word 40f - svm_kinds, 50f - svm_kinds, 60f - svm_kinds, 70f - svm_kinds\n"
	".word 80f - svm_kinds, 90f - svm_kinds, 100f - svm_kinds, 110f - svm_kinds\n"
	".word 120f - svm_kinds, 130f - svm_kinds, 140f - svm_kinds, 150f - svm_kinds\n"
	".word 160f - svm_kinds, 170f - svm_kinds\n"
	KIND(1, "vmrun %rax") KIND(2, "vmload %rax") KIND(3, "vmsave %rax")
	KIND(4, "vmmcall") KIND(5, "stgi") KIND(6, "clgi") KIND(7, "skinit %eax")
	KIND(8, "invlpga %rax, %ecx") KIND(9, "vmcall") KIND(10, "vmlaunch")
	KIND(11, "vmresume") KIND(12, "vmxoff")
	KIND(13, "xor %ecx, %ecx\n xgetbv\n xor %r11d, %eax\n xsetbv")
	KIND(14, "mov %cr4, %r9\n xor %r9, %rax\n mov %rax, %cr4\n mov %r9, %cr4")
	KIND(15, "mov %cr0, %r9\n xor %r9, %rax\n mov %rax, %cr0\n mov %r9, %cr0")
	KIND(16, "mov %rax, %cr3") /* mostly the end of it */
	KIND(17, "mov $0xc0000080, %ecx\n rdmsr\n xor %r11d, %eax\n wrmsr")
	"2: mov $0x4000, %eax\n"
	"mov %rax, %cr3\n"
	TAIL(svm_handler));
/* clang-format on */
extern const char svm_handler[];

void sweep_svm(void)
{
	static struct sweep s;
	static struct vm vm;

	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, svm, svm_end, svm_handler, TICK_MS);
	sweep_watch(&s);
	sweep_loop(&s, 0, SVM_KINDS * 64, 1);
	sweep_done(&s, "svm", SVM_KINDS * 64 / 4);
}

/* No IDT, and an exception. */
PAYLOAD(64, triple, "push $0\n push $0\n lidt (%rsp)\n ud2\n triple_handler: hlt\n");
extern const char triple_handler[];

void sweep_triple(void)
{
	static struct sweep s;
	static struct vm vm;

	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, triple, triple_end, triple_handler, TICK_MS);
	sweep_watch(&s);
	for (unsigned i = 0; i < 3000; i++) {
		s.cases += sweep_run(&s, 1) == SWEEP_ENDED;
		sweep_reset(&s);
	}
	expect(s.exits[KVM_EXIT_SHUTDOWN] >= 2900);
	sweep_done(&s, "triple", 2900);
}

/* Whatever leaves the guest, as fast as it can, with a timer that fires all the time. */
PAYLOAD(64, storm,
	"mov $0xfee00000, %ebx\n"
	"movl $0x1ff, 0xf0(%rbx)\n"
	"movl $0xb, 0x3e0(%rbx)\n"
	"movl $0x20040, 0x320(%rbx)\n"
	"movl $1, 0x380(%rbx)\n" HEAD "mov $1, %eax\n"
	"push %rbx\n"
	"cpuid\n"
	"pop %rbx\n"
	"rdtsc\n"
	"pause\n"
	"invlpg (%r12)\n"
	"mov $0x1b, %ecx\n"
	"rdmsr\n"
	"wrmsr\n"
	"out %al, $0x80\n"
	"in $0x61, %al\n"
	"mov $0xd0000100, %edi\n"
	"mov %eax, (%rdi)\n"
	"mov %cr3, %rax\n"
	"mov %rax, %cr3\n"
	"wbinvd\n"
	"lea 2f(%rip), %r15\n"
	"movl $0x40041, 0x300(%rbx)\n" /* to itself */
	"sti\n"
	"hlt\n"
	"2: cli\n"
	"movl $0, 0xb0(%rbx)\n"
	"lea 2f(%rip), %r15\n"
	"vmmcall\n"
	"2:\n" TAIL(storm_handler));
extern const char storm_handler[];

void sweep_storm(void)
{
	static struct sweep s;
	static struct vm vm;

	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, storm, storm_end, storm_handler, TICK_MS);
	sweep_watch(&s);
	sweep_loop(&s, 0, 10000, 1);
	sweep_done(&s, "storm", 10000);
}
