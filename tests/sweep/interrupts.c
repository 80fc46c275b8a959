/*
 * Messages of all kinds from one vCPU to itself, to the others and to nobody, while the others
 * wait for them, with interrupts on or as INIT left them.
 */
#include "tests/sweep/sweep.h"

#define TICK_MS 100
#define OTHERS	2
#define KINDS	(1 << 15)

/*
 * The kind, R12: bits 0-3 vector / 17, 4-7 delivery and destination mode, 8-9 level and trigger,
 * 10-11 shorthand, 12-14 which destination. EBX, ECX: ICR's low and high half.
 */
#define KIND                      \
	"mov %r12d, %eax\n"       \
	"and $15, %eax\n"         \
	"imul $17, %eax, %ebx\n"  \
	"mov %r12d, %eax\n"       \
	"and $0xf0, %eax\n"       \
	"shl $4, %eax\n"          \
	"or %eax, %ebx\n"         \
	"mov %r12d, %eax\n"       \
	"and $0x300, %eax\n"      \
	"shl $6, %eax\n"          \
	"or %eax, %ebx\n"         \
	"mov %r12d, %eax\n"       \
	"and $0xc00, %eax\n"      \
	"shl $8, %eax\n"          \
	"or %eax, %ebx\n"         \
	"mov %r12d, %ecx\n"       \
	"shr $12, %ecx\n"         \
	"and $7, %ecx\n"          \
	"lea dests(%rip), %rdx\n" \
	"movzbl (%rdx, %rcx), %ecx\n"

PAYLOAD(64, messages,
	"mov $0xfee00000, %edi\n"
	"movl $0x1ff, 0xf0(%rdi)\n"
	"1: cmp %r13, %r12\n"
	"jae 9f\n"
	"mov %r12, 0x2f450\n"
	"lea 2f(%rip), %r15\n" KIND "shl $24, %ecx\n"
	"mov %ecx, 0x310(%rdi)\n"
	"mov %ebx, 0x300(%rdi)\n"
	"sti\n"
	"nop\n"
	"2: cli\n"
	"inc %r12\n"
	"jmp 1b\n"
	"messages_x2: mov $0xfee00000, %edi\n" /* the same by MSR */
	"mov $0x80f, %ecx\n"
	"mov $0x1ff, %eax\n"
	"xor %edx, %edx\n"
	"wrmsr\n"
	"1: cmp %r13, %r12\n"
	"jae 9f\n"
	"mov %r12, 0x2f450\n"
	"lea 2f(%rip), %r15\n" KIND "mov %ecx, %edx\n"
	"mov %ebx, %eax\n"
	"mov $0x830, %ecx\n"
	"wrmsr\n"
	"sti\n"
	"nop\n"
	"2: cli\n"
	"inc %r12\n"
	"jmp 1b\n"
	"9: mov $0xd0000ff0, %eax\n"
	"mov %eax, (%rax)\n"
	"hlt\n"
	"messages_other: mov $0xfee00000, %edi\n"
	"movl $0x1ff, 0xf0(%rdi)\n"
	"messages_other_x2: lea 3f(%rip), %r15\n"
	"3: sti\n"
	"hlt\n"
	"jmp 3b\n"
	"messages_handler: mov $0xb0, %esi\n"
	"mov %r10, %rsp\n"
	"movl $0, (%rdi, %rsi)\n"
	"jmp *%r15\n"
	"dests: .byte 0, 1, 2, 3, 7, 0x10, 0x80, 0xff\n");
extern const char messages_x2[], messages_other[], messages_other_x2[], messages_handler[];

static void *other(void *arg)
{
	struct sweep *s = arg;

	sweep_watch(s);
	while (!atomic_load(&s->stop)) {
		sweep_reset(s);
		sweep_run(s, 1000);
		s->cases++;
	}
	return NULL;
}

void sweep_interrupts(bool x2apic)
{
	static struct sweep s, others[OTHERS];
	static struct vm vm;
	pthread_t threads[OTHERS];

	sweep_begin(&s, &vm, IRQCHIP_FULL, 64, messages, messages_end, messages_handler, TICK_MS);
	if (x2apic) {
		s.sregs.apic_base |= 0x400;
		s.regs.rip = PAYLOAD_AT(messages, messages_x2);
	}
	sweep_watch(&s);
	for (unsigned i = 0; i < OTHERS; i++) {
		sweep_add(&others[i], &s, messages, x2apic ? messages_other_x2 : messages_other);
		expect(pthread_create(&threads[i], NULL, other, &others[i]) == 0);
	}
	s.regs.r10 = SWEEP_STACKS;
	sweep_loop(&s, 0, KINDS, 1);
	for (unsigned i = 0; i < OTHERS; i++) {
		atomic_store(&others[i].stop, true);
		pthread_join(threads[i], NULL);
		atomic_store(&others[i].ended, true);
		pthread_join(others[i].watcher, NULL);
	}
	sweep_done(&s, x2apic ? "interrupts-x2apic" : "interrupts", KINDS / 4 * 3);
}
