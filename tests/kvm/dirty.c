/* The dirty log: each page that a guest, or KVM on its behalf, writes to, and no other. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define BASE  UINT64_C(0x10000000)
#define PAGES 130 /* of the slot: three words of bitmap, the last with two bits */
#define WORDS 3
#define HUGE  UINT64_C(0x200000)

/* A bitmap has room for a slot of 2 MiB, and a word that nobody writes to. */
#define WORDS_MAX 9
#define UNTOUCHED UINT64_C(0xfeedfacecafebeef)

struct log {
	uint64_t words[WORDS_MAX];
};

static int get_log(struct vm *vm, uint32_t slot, struct log *log)
{
	struct kvm_dirty_log request = {.slot = slot, .dirty_bitmap = log->words};

	for (size_t i = 0; i < WORDS_MAX; i++) {
		log->words[i] = UNTOUCHED;
	}
	return kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &request);
}

static bool logged(const struct log *log, uint64_t page)
{
	return (log->words[page / 64] >> page % 64 & 1) != 0;
}

#define expect_log(vm, ...) expect_pages_logged(__FILE__, __LINE__, (vm), __VA_ARGS__, -1)

/* The log of slot 1 has these pages, up to -1, and no other; and is empty then. */
static void expect_pages_logged(const char *file, int line, struct vm *vm, ...)
{
	struct log log, want = {0};
	va_list pages;
	int page;

	must(get_log(vm, 1, &log));
	va_start(pages, vm);
	while ((page = va_arg(pages, int)) >= 0) {
		want.words[page / 64] |= UINT64_C(1) << page % 64;
	}
	va_end(pages);
	for (size_t i = 0; i < WORDS; i++) {
		test_expect_eq(file, line, i == 0 ? "pages 0 to 63" : "pages 64 and up",
			       log.words[i], want.words[i]);
	}
	test_expect_eq(file, line, "the word behind the bitmap", log.words[WORDS], UNTOUCHED);
}

#define expect_empty_log(vm) expect_log((vm), -1)

static uint8_t *slot_memory;

static void set_flags(struct vm *vm, uint32_t flags)
{
	must(vm_set_slot(vm, 1, flags, BASE, PAGES * PAGE, slot_memory));
}

static void enable_manual(struct vm *vm, uint64_t options)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {options}};
	uint64_t offered = (uint64_t)vm_has(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

	if ((offered & options) != options) {
		test_skip("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 has only 0x%x", (unsigned int)offered);
	}
	expect_eq(kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap), 0);
}

/* A VM with slot 1, logged; @manual: what of manual protection to enable. */
static struct vcpu *start_manual(struct vm *vm, uint64_t manual)
{
	struct vcpu *vcpu = access_start(vm);

	if (manual != 0) {
		enable_manual(vm, manual);
	}
	slot_memory = vm_memory(PAGES * PAGE);
	set_flags(vm, KVM_MEM_LOG_DIRTY_PAGES);
	return vcpu;
}

static struct vcpu *start(struct vm *vm)
{
	return start_manual(vm, 0);
}

/* ---- what is logged ---- */

static void log_is_empty_at_first(void)
{
	struct vm vm;

	start(&vm);
	expect_empty_log(&vm);
}

static void first_write_is_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	guest_store(vcpu, BASE + 3 * PAGE, 1);
	guest_store(vcpu, BASE + 70 * PAGE + PAGE - 8, 1);
	expect_log(&vm, 3, 70);
}

static void first_and_last_page_are_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	guest_store(vcpu, BASE, 1);
	guest_store(vcpu, BASE + 63 * PAGE, 1);
	guest_store(vcpu, BASE + 64 * PAGE, 1);
	guest_store(vcpu, BASE + (PAGES - 1) * PAGE, 1);
	expect_log(&vm, 0, 63, 64, PAGES - 1);
}

/* A page that comes into a guest's view for the first time may be logged, whatever for. */
static void reads_are_not_logged(void)
{
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	slot_memory[9 * PAGE] = 0xc3; /* ret */
	for (uint64_t page = 0; page < 10; page++) {
		guest_load(vcpu, BASE + page * PAGE);
	}
	must(get_log(&vm, 1, &log));
	for (uint64_t page = 0; page < 10; page++) {
		guest_load(vcpu, BASE + page * PAGE);
	}
	guest_access(vcpu, ACCESS_CALL, BASE + 9 * PAGE, 0);
	expect_empty_log(&vm);
	guest_store(vcpu, BASE + 2 * PAGE, 1);
	guest_load(vcpu, BASE + 3 * PAGE);
	expect_log(&vm, 2);
}

static void written_again_is_logged_again(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	for (uint64_t i = 0; i < 4; i++) {
		guest_store(vcpu, BASE + 5 * PAGE, i);
		guest_store(vcpu, BASE + 5 * PAGE + 8, i);
		expect_log(&vm, 5);
		expect_empty_log(&vm);
	}
}

static void same_value_is_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	guest_load(vcpu, BASE + PAGE);
	guest_store(vcpu, BASE + PAGE, 0);
	expect_log(&vm, 1);
}

static void every_width_is_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	guest_access(vcpu, ACCESS_STORE_1, BASE + PAGE - 1, 1);
	guest_access(vcpu, ACCESS_STORE_2, BASE + 2 * PAGE, 1);
	guest_access(vcpu, ACCESS_STORE_4, BASE + 4 * PAGE, 1);
	guest_access(vcpu, ACCESS_ADD, BASE + 6 * PAGE, 1);
	guest_access(vcpu, ACCESS_XADD, BASE + 8 * PAGE, 1);
	expect_log(&vm, 0, 2, 4, 6, 8);
}

static void write_across_pages_logs_both(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	guest_store(vcpu, BASE + 4 * PAGE - 1, 1);
	guest_access(vcpu, ACCESS_STORE_2, BASE + 64 * PAGE - 1, 1);
	expect_log(&vm, 3, 4, 63, 64);
}

static void host_writes_are_not_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	guest_store(vcpu, BASE, 1);
	expect_log(&vm, 0);
	memset(slot_memory, 0x33, PAGES * PAGE);
	guest_load(vcpu, BASE);
	expect_empty_log(&vm);
}

/* Runs a payload with RDI in the slot, RSI @rsi and RCX @rcx. */
static void start_payload(struct vcpu *vcpu, const char *code, const char *code_end, uint64_t rdi,
			  uint64_t rsi, uint64_t rcx)
{
	struct kvm_regs regs;

	vcpu_start(vcpu, 64, code, code_end);
	regs = vcpu_regs(vcpu);
	regs.rdi = rdi;
	regs.rsi = rsi;
	regs.rcx = rcx;
	regs.rdx = 0x510;
	vcpu_set_regs(vcpu, &regs);
}

PAYLOAD(64, string_store, "rep stosb; hlt");

static void string_writes_are_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	start_payload(vcpu, string_store, string_store_end, BASE + 2 * PAGE - 1, 0, 2 * PAGE + 2);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_log(&vm, 1, 2, 3, 4);
}

PAYLOAD(64, string_in, "insl; hlt");

static void port_string_input_is_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	for (uint32_t value = 0x12345678; value < 0x1234567b; value++) {
		start_payload(vcpu, string_in, string_in_end, BASE + 7 * PAGE, 0, 0);
		expect_in(vcpu, 0x510, 4, value);
		expect_exit(vcpu, KVM_EXIT_HLT);
		expect_eq(access_word(slot_memory + 7 * PAGE), value);
		expect_log(&vm, 7);
	}
}

PAYLOAD(64, string_move, "movsl; hlt");

/* KVM itself writes to the slot, for the instruction that it emulates. */
static void copy_from_mmio_is_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	for (uint32_t value = 0x9abcdef0; value < 0x9abcdef3; value++) {
		start_payload(vcpu, string_move, string_move_end, BASE + 8 * PAGE, VM_HOLE, 0);
		expect_mmio_read(vcpu, VM_HOLE, 4, value);
		expect_exit(vcpu, KVM_EXIT_HLT);
		expect_eq(access_word(slot_memory + 8 * PAGE), value);
		expect_log(&vm, 8);
	}
}

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01
#define CPUID_KVM_FEATURES	0x40000001
#define KVM_CLOCKSOURCE2	(1 << 3)

static void kvmclock_is_logged(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	if ((vm_cpuid_leaf(&vm, CPUID_KVM_FEATURES, 0).eax & KVM_CLOCKSOURCE2) == 0) {
		test_skip("the provider has no kvmclock");
	}
	expect_eq(vcpu_set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, (BASE + 6 * PAGE) | 1), 1);
	guest_load(vcpu, VM_FREE);
	expect(access_word(slot_memory + 6 * PAGE) != 0);
	expect_log(&vm, 6);
}

/* The CPU sets the accessed bits of the guest's page tables. */
static void page_table_updates_are_logged(void)
{
	struct kvm_sregs sregs;
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	uint64_t *table = (uint64_t *)(slot_memory + PAGE);

	/* Page 1: a PML4; its second entry is the first again, with no bit set yet. */
	memcpy(table, vm.ram + VM_TABLES, PAGE);
	table[1] = table[0] & ~UINT64_C(0x20);
	sregs = vcpu_sregs(vcpu);
	sregs.cr3 = BASE + PAGE;
	vcpu_set_sregs(vcpu, &sregs);
	guest_store(vcpu, VM_FREE, 1);
	must(get_log(&vm, 1, &log));
	expect_eq(guest_load(vcpu, (UINT64_C(1) << 39) + VM_FREE), 1);
	expect_eq(access_word(&table[1]) & 0x20, 0x20);
	expect_log(&vm, 1);
}

static void exception_frames_are_logged(void)
{
	static const char text[] = "\xf4"; /* hlt */
	struct kvm_regs regs;
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	memcpy(vm.ram + VM_FREE, text, 1);
	vm_gate(&vm, 64, 6, VM_FREE);
	memcpy(vm.ram + VM_CODE, "\x0f\x0b", 2); /* ud2 */
	regs = vcpu_regs(vcpu);
	regs.rip = VM_CODE;
	regs.rsp = BASE + 12 * PAGE;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(slot_memory + 12 * PAGE - 40), VM_CODE);
	expect_log(&vm, 11);
}

/* ---- slots ---- */

static void slots_have_their_own_logs(void)
{
	uint8_t *other = vm_memory(PAGES * PAGE);
	const uint64_t gpa = BASE + PAGES * PAGE;
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	must(vm_set_slot(&vm, 2, KVM_MEM_LOG_DIRTY_PAGES, gpa, PAGES * PAGE, other));
	guest_store(vcpu, gpa - 4, 1);
	guest_store(vcpu, gpa + 9 * PAGE, 1);
	guest_store(vcpu, VM_FREE, 1);
	expect_log(&vm, PAGES - 1);
	must(get_log(&vm, 2, &log));
	expect_eq(log.words[0], 1 | 1 << 9);
	expect_eq(log.words[1] | log.words[2], 0);
}

static void bitmap_of(uint64_t pages, size_t words)
{
	uint8_t *memory = vm_memory(pages * PAGE);
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	must(vm_set_slot(&vm, 1, KVM_MEM_LOG_DIRTY_PAGES, BASE, pages * PAGE, memory));
	for (uint64_t page = 0; page < pages; page++) {
		guest_store(vcpu, BASE + page * PAGE, 1);
	}
	must(get_log(&vm, 1, &log));
	for (uint64_t bit = 0; bit < words * 64; bit++) {
		expect_eq(logged(&log, bit), bit < pages);
	}
	expect_eq(log.words[words], UNTOUCHED);
}

static void bitmap_of_1_page(void)
{
	bitmap_of(1, 1);
}

static void bitmap_of_64_pages(void)
{
	bitmap_of(64, 1);
}

static void bitmap_of_65_pages(void)
{
	bitmap_of(65, 2);
}

static void slot_without_log_has_none(void)
{
	struct log log;
	struct vm vm;

	start(&vm);
	expect_errno(get_log(&vm, 0, &log), ENOENT);
	expect_errno(get_log(&vm, 2, &log), ENOENT);
	set_flags(&vm, 0);
	expect_errno(get_log(&vm, 1, &log), ENOENT);
	set_flags(&vm, KVM_MEM_LOG_DIRTY_PAGES);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	expect_errno(get_log(&vm, 1, &log), ENOENT);
}

static void number_beyond_the_limit_is_refused(void)
{
	struct log log;
	struct vm vm;

	start(&vm);
	expect_errno(get_log(&vm, (uint32_t)vm_has(&vm, KVM_CAP_NR_MEMSLOTS), &log), EINVAL);
	expect_errno(get_log(&vm, 9 << 16 | 1, &log), EINVAL);
}

static void bitmap_must_be_writable(void)
{
	struct kvm_dirty_log request = {.slot = 1, .dirty_bitmap = vm_memory(PAGE)};
	struct vm vm;

	start(&vm);
	expect_eq(mprotect(request.dirty_bitmap, PAGE, PROT_READ), 0);
	expect_errno(kvm_ioctl(vm.fd, KVM_GET_DIRTY_LOG, &request), EFAULT);
}

/* ---- on and off ---- */

static void logging_begins_on_a_used_slot(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	set_flags(&vm, 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		guest_store(vcpu, BASE + page * PAGE, page);
	}
	set_flags(&vm, KVM_MEM_LOG_DIRTY_PAGES);
	expect_empty_log(&vm);
	guest_store(vcpu, BASE + 17 * PAGE, 1);
	expect_log(&vm, 17);
	expect_eq(guest_load(vcpu, BASE + 18 * PAGE), 18);
}

static void logging_begins_anew(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	guest_store(vcpu, BASE + 2 * PAGE, 1);
	set_flags(&vm, 0);
	guest_store(vcpu, BASE + 3 * PAGE, 1);
	set_flags(&vm, KVM_MEM_LOG_DIRTY_PAGES);
	expect_empty_log(&vm);
	guest_store(vcpu, BASE + 2 * PAGE, 2);
	guest_store(vcpu, BASE + 3 * PAGE, 2);
	expect_log(&vm, 2, 3);
}

static void large_page_is_logged_in_small_ones(void)
{
	uint8_t *memory = vm_memory(2 * HUGE);
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	memory += HUGE - (uintptr_t)memory % HUGE;
	(void)madvise(memory, HUGE, MADV_HUGEPAGE);
	must(vm_set_slot(&vm, 1, 0, BASE, HUGE, memory));
	guest_store(vcpu, BASE, 1);
	guest_store(vcpu, BASE + HUGE - PAGE, 1);
	must(vm_set_slot(&vm, 1, KVM_MEM_LOG_DIRTY_PAGES, BASE, HUGE, memory));
	guest_store(vcpu, BASE + 511 * PAGE, 1);
	guest_store(vcpu, BASE + 200 * PAGE, 1);
	guest_store(vcpu, BASE + 201 * PAGE, 1);
	must(get_log(&vm, 1, &log));
	for (uint64_t page = 0; page < 512; page++) {
		expect_eq(logged(&log, page), page == 200 || page == 201 || page == 511);
	}
	guest_store(vcpu, BASE + 202 * PAGE, 1);
	must(get_log(&vm, 1, &log));
	expect_eq(log.words[200 / 64], UINT64_C(1) << 202 % 64);
}

/* ---- manual protection ---- */

static int clear_log(struct vm *vm, uint64_t first, uint32_t pages, const struct log *log)
{
	struct kvm_clear_dirty_log request = {
		.slot = 1,
		.num_pages = pages,
		.first_page = first,
		.dirty_bitmap = (void *)(uintptr_t)log->words,
	};

	return kvm_ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &request);
}

static void manual_log_is_kept_until_cleared(void)
{
	struct log log = {{1 << 3}};
	struct vm vm;
	struct vcpu *vcpu = start_manual(&vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);

	guest_store(vcpu, BASE + 3 * PAGE, 1);
	expect_log(&vm, 3);
	expect_log(&vm, 3);
	must(clear_log(&vm, 0, 64, &log));
	expect_empty_log(&vm);
	guest_store(vcpu, BASE + 3 * PAGE, 2);
	expect_log(&vm, 3);
}

static void manual_clears_what_is_named(void)
{
	struct log log = {{1 << 3 | 1 << 5 | 1 << 9}};
	struct vm vm;
	struct vcpu *vcpu = start_manual(&vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);

	for (uint64_t page = 3; page < 7; page++) {
		guest_store(vcpu, BASE + page * PAGE, 1);
		guest_store(vcpu, BASE + (64 + page) * PAGE, 1);
	}
	/* Page 9 is not in the log, and may be named. */
	must(clear_log(&vm, 0, 64, &log));
	expect_log(&vm, 4, 6, 67, 68, 69, 70);
	must(clear_log(&vm, 64, 64, &log));
	expect_log(&vm, 4, 6, 68, 70);
	guest_store(vcpu, BASE + 4 * PAGE, 2);
	guest_store(vcpu, BASE + 5 * PAGE, 2);
	expect_log(&vm, 4, 5, 6, 68, 70);
}

static void manual_clears_the_last_pages(void)
{
	struct log log = {{3}};
	struct vm vm;
	struct vcpu *vcpu = start_manual(&vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);

	guest_store(vcpu, BASE + 127 * PAGE, 1);
	guest_store(vcpu, BASE + 128 * PAGE, 1);
	guest_store(vcpu, BASE + 129 * PAGE, 1);
	must(clear_log(&vm, 128, PAGES - 128, &log));
	expect_log(&vm, 127);
}

static void manual_clear_refuses_bad_ranges(void)
{
	struct log log = {{UINT64_MAX, UINT64_MAX, UINT64_MAX}};
	struct vm vm;
	struct vcpu *vcpu = start_manual(&vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);

	guest_store(vcpu, BASE, 1);
	guest_store(vcpu, BASE + 65 * PAGE, 1);
	expect_errno(clear_log(&vm, 1, 64, &log), EINVAL);
	expect_errno(clear_log(&vm, 32, 64, &log), EINVAL);
	expect_errno(clear_log(&vm, 0, 1, &log), EINVAL);
	expect_errno(clear_log(&vm, 0, 65, &log), EINVAL);
	expect_errno(clear_log(&vm, 64, PAGES - 64 + 1, &log), EINVAL);
	expect_errno(clear_log(&vm, 128, 64, &log), EINVAL);
	expect_errno(clear_log(&vm, 192, 64, &log), EINVAL);
	expect_errno(clear_log(&vm, UINT64_MAX - 63, 64, &log), EINVAL);
	expect_log(&vm, 0, 65);
}

static void manual_clear_needs_a_log(void)
{
	struct log log = {0};
	struct vm vm;

	start_manual(&vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	set_flags(&vm, 0);
	expect_errno(clear_log(&vm, 0, 64, &log), ENOENT);
}

static void manual_refuses_unknown_options(void)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};
	struct vm vm;

	access_start(&vm);
	vm_need(&vm, cap.cap, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | 0x80;
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = KVM_DIRTY_LOG_INITIALLY_SET;
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	cap.flags = 1;
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap), EINVAL);
}

/* All pages count as written; a page is watched from when its bit is cleared. */
static void initially_all_are_logged(void)
{
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = start_manual(&vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
						      KVM_DIRTY_LOG_INITIALLY_SET);

	must(get_log(&vm, 1, &log));
	expect_eq(log.words[0], UINT64_MAX);
	expect_eq(log.words[1], UINT64_MAX);
	expect_eq(log.words[2], 3);
	expect_eq(log.words[3], UNTOUCHED);
	guest_store(vcpu, BASE + PAGE, 1);
	guest_store(vcpu, BASE + 2 * PAGE, 1);
	must(clear_log(&vm, 0, PAGES, &log));
	expect_empty_log(&vm);
	guest_store(vcpu, BASE + 2 * PAGE, 1);
	expect_log(&vm, 2);
}

/* ---- while vCPUs run ---- */

/* Writes 8 bytes to every second page, RCX times, from RDI on. */
PAYLOAD(64, write_pages,
	"1: incq (%rdi); add $0x2000, %rdi; dec %rcx; jnz 1b\n"
	"hlt\n");

static void *run_to_halt(void *argument)
{
	expect_exit((struct vcpu *)argument, KVM_EXIT_HLT);
	return NULL;
}

static void two_vcpus_log_into_one(void)
{
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = start(&vm), *other = vm_add_vcpu(&vm);

	for (int round = 0; round < 3; round++) {
		start_payload(vcpu, write_pages, write_pages_end, BASE, 0, PAGES / 2);
		start_payload(other, write_pages, write_pages_end, BASE + PAGE, 0, PAGES / 2);
		vcpu_in_thread(vcpu, run_to_halt);
		vcpu_in_thread(other, run_to_halt);
		vcpu_join(vcpu);
		vcpu_join(other);
		must(get_log(&vm, 1, &log));
		expect_eq(log.words[0], UINT64_MAX);
		expect_eq(log.words[1], UINT64_MAX);
		expect_eq(log.words[2], 3);
		expect_empty_log(&vm);
	}
}

/* One more in each of 128 pages, again and again, until [RSI] is not 0; how often: at 8(RSI). */
PAYLOAD(64, write_always,
	"sti\n"
	"1: mov %rdi, %rbx; mov $128, %ecx\n"
	"2: incq (%rbx); add $0x1000, %rbx; dec %ecx; jnz 2b\n"
	"incq 8(%rsi); cmpl $0, (%rsi); je 1b\n"
	"hlt\n");

/* After each log: what it does not name is as it was when the log before was taken. */
static void no_write_is_lost_while_running(void)
{
	static uint8_t copy[PAGES * PAGE];
	uint32_t *rounds, seen = 0;
	struct log log;
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	rounds = (uint32_t *)(vm.ram + VM_FREE + 8);
	start_payload(vcpu, write_always, write_always_end, BASE, VM_FREE, 0);
	vcpu_in_thread(vcpu, run_to_halt);
	for (int i = 0; i < 12; i++) {
		seen = access_await(rounds, seen);
		must(get_log(&vm, 1, &log));
		for (uint64_t page = 0; page < PAGES; page++) {
			if (logged(&log, page)) {
				memcpy(copy + page * PAGE, slot_memory + page * PAGE, PAGE);
			}
		}
	}
	__atomic_store_n((uint32_t *)(vm.ram + VM_FREE), 1, __ATOMIC_RELEASE);
	vcpu_join(vcpu);
	must(get_log(&vm, 1, &log));
	for (uint64_t page = 0; page < PAGES; page++) {
		if (!logged(&log, page)) {
			expect(memcmp(copy + page * PAGE, slot_memory + page * PAGE, PAGE) == 0);
		}
	}
	expect_eq(access_word(slot_memory), access_word(slot_memory + 127 * PAGE));
}

const struct test_case dirty_cases[] = {
	{"dirty/log_is_empty_at_first", "KVM API 4.8", log_is_empty_at_first},
	{"dirty/first_write_is_logged", "KVM API 4.8", first_write_is_logged},
	{"dirty/first_and_last_page_are_logged", "KVM API 4.8", first_and_last_page_are_logged},
	{"dirty/reads_are_not_logged", "KVM API 4.8", reads_are_not_logged},
	{"dirty/written_again_is_logged_again", "KVM API 4.8", written_again_is_logged_again},
	{"dirty/same_value_is_logged", "KVM API 4.8", same_value_is_logged},
	{"dirty/every_width_is_logged", "KVM API 4.8", every_width_is_logged},
	{"dirty/write_across_pages_logs_both", "KVM API 4.8", write_across_pages_logs_both},
	{"dirty/host_writes_are_not_logged", "KVM API 4.8", host_writes_are_not_logged},
	{"dirty/string_writes_are_logged", "KVM API 4.8", string_writes_are_logged},
	{"dirty/port_string_input_is_logged", "KVM API 4.8, 5", port_string_input_is_logged},
	{"dirty/copy_from_mmio_is_logged", "KVM API 4.8, 5", copy_from_mmio_is_logged},
	{"dirty/kvmclock_is_logged", "KVM API 4.8; Linux Documentation/virt/kvm/x86/msr.rst",
	 kvmclock_is_logged},
	{"dirty/page_table_updates_are_logged", "KVM API 4.8; AMD APM vol. 2, 5.4.2",
	 page_table_updates_are_logged},
	{"dirty/exception_frames_are_logged", "KVM API 4.8", exception_frames_are_logged},
	{"dirty/slots_have_their_own_logs", "KVM API 4.8", slots_have_their_own_logs},
	{"dirty/bitmap_of_1_page", "KVM API 4.8", bitmap_of_1_page},
	{"dirty/bitmap_of_64_pages", "KVM API 4.8", bitmap_of_64_pages},
	{"dirty/bitmap_of_65_pages", "KVM API 4.8", bitmap_of_65_pages},
	{"dirty/slot_without_log_has_none", "KVM API 4.8", slot_without_log_has_none},
	{"dirty/number_beyond_the_limit_is_refused", "KVM API 4.8",
	 number_beyond_the_limit_is_refused},
	{"dirty/bitmap_must_be_writable", "KVM API 4.8", bitmap_must_be_writable},
	{"dirty/logging_begins_on_a_used_slot", "KVM API 4.8, 4.35", logging_begins_on_a_used_slot},
	{"dirty/logging_begins_anew", "KVM API 4.8, 4.35", logging_begins_anew},
	{"dirty/large_page_is_logged_in_small_ones", "KVM API 4.8, 4.35",
	 large_page_is_logged_in_small_ones},
	{"dirty/manual_log_is_kept_until_cleared", "KVM API 4.117, 7.18",
	 manual_log_is_kept_until_cleared},
	{"dirty/manual_clears_what_is_named", "KVM API 4.117", manual_clears_what_is_named},
	{"dirty/manual_clears_the_last_pages", "KVM API 4.117", manual_clears_the_last_pages},
	{"dirty/manual_clear_refuses_bad_ranges", "KVM API 4.117", manual_clear_refuses_bad_ranges},
	{"dirty/manual_clear_needs_a_log", "KVM API 4.117", manual_clear_needs_a_log},
	{"dirty/manual_refuses_unknown_options", "KVM API 7.18", manual_refuses_unknown_options},
	{"dirty/initially_all_are_logged", "KVM API 7.18", initially_all_are_logged},
	{"dirty/two_vcpus_log_into_one", "KVM API 4.8", two_vcpus_log_into_one},
	{"dirty/no_write_is_lost_while_running", "KVM API 4.8", no_write_is_lost_while_running},
	TEST_END,
};
