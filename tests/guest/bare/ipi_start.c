/* INIT and start-up IPIs: what starts a CPU, where, and in which state. */
#include "tests/guest/bare/apic_regs.h"

#define PROBE	    0xb000     /* where the code below is put: SIPI vector 0x0b */
#define PROBE_VALUE 0xb800     /* what it finds */
#define CR0_CACHE   0x60000000 /* CD and NW: INIT leaves them alone, RESET sets them */

/* Stores what it finds, relative to CS, and halts. Offset 0x8fc becomes 1 when all is there. */
__asm__(".pushsection .rodata\n"
	".code16\n"
	"probe:\n"
	"	mov %eax, %cs:0x800\n"
	"	mov %ebx, %cs:0x804\n"
	"	mov %ecx, %cs:0x808\n"
	"	mov %edx, %cs:0x80c\n"
	"	mov %esi, %cs:0x810\n"
	"	mov %edi, %cs:0x814\n"
	"	mov %ebp, %cs:0x818\n"
	"	mov %esp, %cs:0x81c\n"
	"	mov %cs, %ax\n"
	"	mov %ax, %cs:0x820\n"
	"	mov %ds, %ax\n"
	"	mov %ax, %cs:0x824\n"
	"	mov %es, %ax\n"
	"	mov %ax, %cs:0x828\n"
	"	mov %ss, %ax\n"
	"	mov %ax, %cs:0x82c\n"
	"	mov %fs, %ax\n"
	"	mov %ax, %cs:0x830\n"
	"	mov %gs, %ax\n"
	"	mov %ax, %cs:0x834\n"
	"	mov %cr0, %eax\n"
	"	mov %eax, %cs:0x838\n"
	"	mov %cr3, %eax\n"
	"	mov %eax, %cs:0x83c\n"
	"	mov %cr4, %eax\n"
	"	mov %eax, %cs:0x840\n"
	"	mov $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	mov %eax, %cs:0x844\n"
	"	mov %dr6, %eax\n"
	"	mov %eax, %cs:0x848\n"
	"	mov %dr7, %eax\n"
	"	mov %eax, %cs:0x84c\n"
	"	pushfl\n"
	"	popl %eax\n"
	"	mov %eax, %cs:0x864\n"
	"	sidtl %cs:0x850\n"
	"	sgdtl %cs:0x858\n"
	"	call 1f\n"
	"1:	pop %ax\n"
	"	sub $1b - probe, %ax\n"
	"	mov %ax, %cs:0x860\n"
	"	movl $1, %cs:0x8fc\n"
	"2:	cli\n"
	"	hlt\n"
	"	jmp 2b\n"
	"probe_end:\n"
	".code64\n"
	".popsection");
extern const char probe[], probe_end[];

void *memcpy(void *to, const void *from, size_t len);

/* The other CPU counts here while it runs. */
static volatile uint32_t beats;

static uint32_t found(uint32_t offset)
{
	return *(volatile uint32_t *)(uintptr_t)(PROBE + offset);
}

static void put_probe(void)
{
	memcpy((void *)(uintptr_t)PROBE, probe, (size_t)(probe_end - probe));
	for (uint32_t i = 0; i < 64; i++) {
		((volatile uint32_t *)(uintptr_t)PROBE_VALUE)[i] = 0;
	}
}

static void wait_probe(void)
{
	bare_wait((const volatile uint32_t *)(uintptr_t)(PROBE + 0x8fc), 1);
}

static void check_found(void)
{
	for (uint32_t i = 0x800; i < 0x820; i += 4) {
		if (i != 0x80c) { /* EDX tells the model */
			check_eq(found(i), 0);
		}
	}
	check_eq(found(0x820), PROBE >> 4); /* CS */
	for (uint32_t i = 0x824; i < 0x838; i += 4) {
		check_eq(found(i), 0); /* DS, ES, SS, FS, GS */
	}
	check_eq(found(0x838) & ~CR0_CACHE, 0x10);
	check_eq(found(0x83c), 0); /* CR3 */
	check_eq(found(0x840), 0); /* CR4 */
	check_eq(found(0x844), 0); /* EFER */
	check_eq(found(0x848), 0xffff0ff0);
	check_eq(found(0x84c), 0x400);
	check_eq(found(0x850), 0xffff);	    /* IDTR: limit, and the base's lower half */
	check_eq(found(0x858), 0xffff);	    /* GDTR */
	check_eq(found(0x860) & 0xffff, 0); /* IP */
	check_eq(found(0x864), 2);	    /* EFLAGS */
}

static void beat(void *argument)
{
	(void)argument;
	apic_enable();
	/* Something in each register that a start must clear. */
	__asm__ volatile("mov $0x5555555555555555, %%rax\n"
			 "mov %%rax, %%rbx\n"
			 "mov %%rax, %%rcx\n"
			 "mov %%rax, %%rsi\n"
			 "mov %%rax, %%rbp\n"
			 "1: incl (%%rdi)\n"
			 "pause\n"
			 "jmp 1b"
			 :
			 : "D"(&beats), "a"(0)
			 : "memory");
}

static void wait_beats(uint32_t more)
{
	uint32_t from = beats;

	while (beats - from < more) {
		cpu_pause();
	}
}

BARE_CASE_ON(start_state, "ipi/sipi_starts_at_its_page_in_real_mode", "AMD APM vol. 2, 14.1.3", 2,
	     0)
{
	put_probe();
	apic_enable();
	apic_send(1, ICR_ASSERT | ICR_INIT);
	apic_send(1, ICR_ASSERT | ICR_SIPI | PROBE >> 12);
	wait_probe();
	check_found();
}

BARE_CASE_ON(init_running, "ipi/init_resets_a_running_cpu", "AMD APM vol. 2, 14.1.2", 2, 0)
{
	uint32_t last;

	put_probe();
	apic_enable();
	bare_start_cpu(1, beat, NULL);
	wait_beats(100);
	apic_send(1, ICR_ASSERT | ICR_INIT);
	apic_send(1, ICR_ASSERT | ICR_SIPI | PROBE >> 12);
	wait_probe();
	check_found();
	last = beats;
	for (int i = 0; i < 1000; i++) {
		cpu_pause();
	}
	check_eq(beats, last);
}

BARE_CASE_ON(init_stops, "ipi/after_init_a_cpu_waits_for_sipi", "AMD APM vol. 2, 14.1.2", 2, 0)
{
	uint32_t last;

	put_probe();
	irq_take(0x60);
	apic_enable();
	bare_start_cpu(1, beat, NULL);
	wait_beats(10);
	apic_send(1, ICR_ASSERT | ICR_INIT);
	do {
		last = beats;
		for (int i = 0; i < 10000; i++) {
			cpu_pause();
		}
	} while (beats != last);
	apic_send(1, ICR_ASSERT | 0x60);
	for (int i = 0; i < 10000; i++) {
		cpu_pause();
	}
	check_eq(beats, last);
	check_eq(found(0x8fc), 0);
	apic_send(1, ICR_ASSERT | ICR_SIPI | PROBE >> 12);
	wait_probe();
}

BARE_CASE_ON(second_sipi, "ipi/sipi_to_a_running_cpu_is_ignored", "AMD APM vol. 2, 14.1.3", 2, 0)
{
	put_probe();
	apic_enable();
	bare_start_cpu(1, beat, NULL);
	wait_beats(100);
	apic_send(1, ICR_ASSERT | ICR_SIPI | PROBE >> 12);
	wait_beats(100);
	/* It is not kept for later, either. */
	bare_start_cpu(1, beat, NULL);
	wait_beats(100);
	check_eq(found(0x8fc), 0);
}

BARE_CASE_ON(deassert, "ipi/init_level_deassert_does_nothing", "Intel SDM vol. 3A, 10.6.1", 2, 0)
{
	apic_enable();
	bare_start_cpu(1, beat, NULL);
	wait_beats(100);
	apic_send(1, ICR_LEVEL | ICR_INIT);
	wait_beats(1000);
}

BARE_CASE_ON(start_others, "ipi/init_and_sipi_to_all_others", "AMD APM vol. 2, 14.1.3", 2, 0)
{
	put_probe();
	apic_enable();
	apic_send(0, ICR_ASSERT | ICR_OTHERS | ICR_INIT);
	apic_send(0, ICR_ASSERT | ICR_OTHERS | ICR_SIPI | PROBE >> 12);
	wait_probe();
	check_found();
}

static void spoil_base(void *done)
{
	/* INIT leaves the base register, and with it the mode, alone. */
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2);
	wrmsr(0xc0000102, 0x123456789000); /* KERNEL_GS_BASE: no reset changes it */
	__atomic_store_n((uint32_t *)done, 1, __ATOMIC_RELEASE);
}

static void check_base(void *done)
{
	check_eq(rdmsr(MSR_APIC_BASE) & (APIC_BASE_EN | APIC_BASE_X2), APIC_BASE_EN | APIC_BASE_X2);
	check_eq(rdmsr(MSR_X2APIC + APIC_SVR / 16), 0xff);
	check_eq(rdmsr(0xc0000102), 0x123456789000);
	__atomic_store_n((uint32_t *)done, 1, __ATOMIC_RELEASE);
}

BARE_CASE_ON(init_keeps, "ipi/init_keeps_msrs_and_x2apic_mode", "Intel SDM vol. 3A, 10.12.5.1", 2,
	     0)
{
	uint32_t done = 0;

	if ((cpuid(1, 0).ecx >> 21 & 1) == 0) {
		bare_skip("the CPU has no x2APIC");
	}
	apic_enable();
	bare_start_cpu(1, spoil_base, &done);
	bare_wait(&done, 1);
	done = 0;
	bare_start_cpu(1, check_base, &done);
	bare_wait(&done, 1);
}
