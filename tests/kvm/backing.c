/*
 * What stands behind memory slots: read-only slots, and the process's own memory as it changes
 * under a guest (KVM_CAP_SYNC_MMU).
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define BASE  UINT64_C(0x10000000)
#define BYTES (16 * PAGE)
#define HUGE  UINT64_C(0x200000)

static struct vcpu *start(struct vm *vm, uint32_t flags, uint8_t **memory)
{
	struct vcpu *vcpu = access_start(vm);

	*memory = vm_memory(BYTES);
	must(vm_set_slot(vm, 1, flags, BASE, BYTES, *memory));
	return vcpu;
}

/* ---- read-only slots ---- */

static struct vcpu *start_read_only(struct vm *vm, uint8_t **memory)
{
	struct vcpu *vcpu = start(vm, KVM_MEM_READONLY, memory);

	memset(*memory, 0x5a, BYTES);
	return vcpu;
}

static void read_only_slot_is_read(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_read_only(&vm, &memory);

	expect_eq(guest_load(vcpu, BASE), 0x5a5a5a5a5a5a5a5a);
	memory[BYTES - 1] = 0x11;
	expect_eq(guest_load(vcpu, BASE + BYTES - 8), 0x115a5a5a5a5a5a5a);
}

static void read_only_store(enum access access, uint32_t bytes)
{
	const uint64_t value = 0x8877665544332211;
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_read_only(&vm, &memory);

	for (unsigned int i = 0; i < 2; i++) { /* before a page is read, and after */
		access_begin(vcpu, access, BASE + 0x40, value);
		expect_mmio_write(vcpu, BASE + 0x40, bytes,
				  bytes == 8 ? value : value & ((UINT64_C(1) << 8 * bytes) - 1));
		expect_exit(vcpu, KVM_EXIT_HLT);
		expect_eq(guest_load(vcpu, BASE + 0x40), 0x5a5a5a5a5a5a5a5a);
	}
	expect_eq(access_word(memory + 0x40), 0x5a5a5a5a5a5a5a5a);
}

static void read_only_store_of_1_byte(void)
{
	read_only_store(ACCESS_STORE_1, 1);
}

static void read_only_store_of_2_bytes(void)
{
	read_only_store(ACCESS_STORE_2, 2);
}

static void read_only_store_of_4_bytes(void)
{
	read_only_store(ACCESS_STORE_4, 4);
}

static void read_only_store_of_8_bytes(void)
{
	read_only_store(ACCESS_STORE_8, 8);
}

/* Memory answers the read, user space gets the write. */
static void read_only_read_modify_write(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_read_only(&vm, &memory);

	access_begin(vcpu, ACCESS_ADD, BASE + 8, 1);
	expect_mmio_write(vcpu, BASE + 8, 8, 0x5a5a5a5a5a5a5a5b);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(memory + 8), 0x5a5a5a5a5a5a5a5a);
}

static void read_only_code_runs(void)
{
	static const uint8_t code[] = {0xb8, 0x78, 0x56, 0x34, 0x12, 0xc3}; /* mov, ret */
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_read_only(&vm, &memory);

	memcpy(memory + PAGE - 3, code, sizeof(code));
	expect_eq(guest_access(vcpu, ACCESS_CALL, BASE + PAGE - 3, 0), 0x12345678);
}

static void read_only_slot_beside_a_writable_one(void)
{
	struct vm vm;
	uint8_t *memory, *other = vm_memory(PAGE);
	struct vcpu *vcpu = start_read_only(&vm, &memory);

	must(vm_set_slot(&vm, 2, 0, BASE + BYTES, PAGE, other));
	guest_store(vcpu, BASE + BYTES, 1);
	expect_eq(access_word(other), 1);
	access_begin(vcpu, ACCESS_STORE_8, BASE + BYTES - 8, 2);
	expect_mmio_write(vcpu, BASE + BYTES - 8, 8, 2);
}

static void becoming_writable_is_refused(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_read_only(&vm, &memory);

	expect_errno(vm_set_slot(&vm, 1, 0, BASE, BYTES, memory), EINVAL);
	access_begin(vcpu, ACCESS_STORE_8, BASE, 2);
	expect_mmio_write(vcpu, BASE, 8, 2);
}

static void writable_after_a_new_start(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_read_only(&vm, &memory);

	expect_eq(guest_load(vcpu, BASE), 0x5a5a5a5a5a5a5a5a);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	must(vm_set_slot(&vm, 1, 0, BASE, BYTES, memory));
	guest_store(vcpu, BASE, 3);
	expect_eq(access_word(memory), 3);
}

static void read_only_after_a_new_start(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	guest_store(vcpu, BASE, 3);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	must(vm_set_slot(&vm, 1, KVM_MEM_READONLY, BASE, BYTES, memory));
	access_begin(vcpu, ACCESS_STORE_8, BASE, 4);
	expect_mmio_write(vcpu, BASE, 8, 4);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(guest_load(vcpu, BASE), 3);
}

/* ---- the process's memory changes ---- */

static void dropped_memory_is_zero(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	guest_store(vcpu, BASE + PAGE, 1);
	guest_store(vcpu, BASE + 2 * PAGE, 2);
	expect_eq(madvise(memory + PAGE, PAGE, MADV_DONTNEED), 0);
	expect_eq(guest_load(vcpu, BASE + PAGE), 0);
	expect_eq(guest_load(vcpu, BASE + 2 * PAGE), 2);
	guest_store(vcpu, BASE + PAGE, 3);
	expect_eq(access_word(memory + PAGE), 3);
}

static void remapped_memory_is_seen(void)
{
	struct vm vm;
	uint8_t *memory, *other;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	guest_store(vcpu, BASE + PAGE, 1);
	other = vm_memory(PAGE);
	memset(other, 0x33, PAGE);
	expect(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + PAGE) ==
	       memory + PAGE);
	expect_eq(guest_load(vcpu, BASE + PAGE), 0x3333333333333333);
	guest_store(vcpu, BASE + PAGE, 4);
	expect_eq(access_word(memory + PAGE), 4);
}

/* The memory of a slot may be mapped after the slot is made: only what a guest touches counts. */
static void unmapped_memory_is_a_fault(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	guest_store(vcpu, BASE + PAGE, 1);
	expect_eq(munmap(memory + PAGE, PAGE), 0);
	access_begin(vcpu, ACCESS_STORE_8, BASE + PAGE, 2);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EFAULT);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EFAULT);
	expect(mmap(memory + PAGE, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory + PAGE);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(memory + PAGE), 2);
}

static void fault_leaves_the_registers(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start(&vm, 0, &memory);
	struct kvm_regs before, after;

	expect_eq(mprotect(memory, PAGE, PROT_NONE), 0);
	access_begin(vcpu, ACCESS_XADD, BASE, 5);
	before = vcpu_regs(vcpu);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EFAULT);
	after = vcpu_regs(vcpu);
	expect(memcmp(&before, &after, sizeof(before)) == 0);
	expect_eq(mprotect(memory, PAGE, PROT_READ | PROT_WRITE), 0);
	memory[0] = 9;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 9);
	expect_eq(access_word(memory), 14);
}

/* The slot is writable, the process's mapping is not. */
static void protected_memory_is_read(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	memory[PAGE] = 0x42;
	expect_eq(mprotect(memory, BYTES, PROT_READ), 0);
	expect_eq(guest_load(vcpu, BASE + PAGE), 0x42);
	expect_eq(guest_load(vcpu, BASE + 2 * PAGE), 0);
}

static void protected_memory_is_not_written(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	guest_store(vcpu, BASE + PAGE, 1);
	expect_eq(mprotect(memory, BYTES, PROT_READ), 0);
	access_begin(vcpu, ACCESS_STORE_8, BASE + PAGE, 2);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EFAULT);
	expect_eq(access_word(memory + PAGE), 1);
	expect_eq(mprotect(memory, BYTES, PROT_READ | PROT_WRITE), 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(memory + PAGE), 2);
}

/* A page that was only read is shared with a file or with zeros; a write gives it its own. */
static void page_read_then_written_by_the_host(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	expect_eq(guest_load(vcpu, BASE), 0);
	memory[0] = 0x21;
	expect_eq(guest_load(vcpu, BASE), 0x21);
	expect_eq(guest_load(vcpu, BASE + PAGE), 0);
	guest_store(vcpu, BASE + PAGE, 5);
	expect_eq(memory[PAGE], 5);
	memory[PAGE] = 6;
	expect_eq(guest_load(vcpu, BASE + PAGE), 6);
}

/* ---- shared files ---- */

static uint8_t *map_file(int fd)
{
	uint8_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	expect(memory != MAP_FAILED);
	return memory;
}

static struct vcpu *start_with_file(struct vm *vm, int *fd, uint8_t **memory)
{
	struct vcpu *vcpu = access_start(vm);

	*fd = memfd_create("slot", MFD_CLOEXEC);
	expect(*fd >= 0);
	expect_eq(ftruncate(*fd, BYTES), 0);
	*memory = map_file(*fd);
	must(vm_set_slot(vm, 1, 0, BASE, BYTES, *memory));
	return vcpu;
}

static void shared_file_is_shared(void)
{
	struct vm vm;
	uint8_t *memory, *again;
	int fd;
	struct vcpu *vcpu = start_with_file(&vm, &fd, &memory);

	again = map_file(fd);
	guest_store(vcpu, BASE + PAGE, 1);
	expect_eq(access_word(again + PAGE), 1);
	again[PAGE] = 2;
	expect_eq(guest_load(vcpu, BASE + PAGE), 2);
}

static void truncated_file_is_a_fault(void)
{
	struct vm vm;
	uint8_t *memory;
	int fd;
	struct vcpu *vcpu = start_with_file(&vm, &fd, &memory);

	guest_store(vcpu, BASE + BYTES - PAGE, 1);
	guest_store(vcpu, BASE, 7);
	expect_eq(ftruncate(fd, BYTES - PAGE), 0);
	access_begin(vcpu, ACCESS_LOAD, BASE + BYTES - PAGE, 0);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EFAULT);
	expect_eq(ftruncate(fd, BYTES), 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0);
	expect_eq(guest_load(vcpu, BASE), 7);
}

/* ---- large pages ---- */

/* Memory that may be backed by large pages, @offset beyond a boundary of 2 MiB. */
static uint8_t *huge_memory(uint64_t bytes, uint64_t offset)
{
	uint8_t *memory = vm_memory(bytes + 2 * HUGE);

	memory += HUGE - (uintptr_t)memory % HUGE;
	/* Where the host has no such pages the same rules hold, by small ones. */
	(void)madvise(memory, bytes + HUGE, MADV_HUGEPAGE);
	return memory + offset;
}

static void expect_pages(struct vcpu *vcpu, uint8_t *memory, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += PAGE) {
		memcpy(memory + at, &at, sizeof(at));
	}
	for (uint64_t at = 0; at < bytes; at += 37 * PAGE) {
		expect_eq(guest_load(vcpu, BASE + at), at);
		guest_store(vcpu, BASE + at, ~at);
		expect_eq(access_word(memory + at), ~at);
	}
	expect_eq(guest_load(vcpu, BASE + bytes - PAGE), bytes - PAGE);
}

static void large_pages(void)
{
	uint8_t *memory = huge_memory(2 * HUGE, 0);
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	must(vm_set_slot(&vm, 1, 0, BASE, 2 * HUGE, memory));
	expect_pages(vcpu, memory, 2 * HUGE);
	expect_hole(vcpu, BASE + 2 * HUGE);
	expect_hole(vcpu, BASE - 8);
}

/* The guest's 2 MiB are not the host's: only small pages can be right. */
static void large_pages_out_of_step(void)
{
	uint8_t *memory = huge_memory(2 * HUGE, PAGE);
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	must(vm_set_slot(&vm, 1, 0, BASE, 2 * HUGE, memory));
	expect_pages(vcpu, memory, 2 * HUGE);
	expect_hole(vcpu, BASE + 2 * HUGE);
}

static void slot_ends_inside_of_a_large_page(void)
{
	const uint64_t bytes = HUGE + HUGE / 2;
	uint8_t *memory = huge_memory(2 * HUGE, 0);
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	must(vm_set_slot(&vm, 1, 0, BASE, bytes, memory));
	expect_pages(vcpu, memory, bytes);
	access_begin(vcpu, ACCESS_STORE_8, BASE + bytes, 1);
	expect_mmio_write(vcpu, BASE + bytes, 8, 1);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(memory + bytes), 0);
}

static void large_page_loses_a_small_one(void)
{
	uint8_t *memory = huge_memory(HUGE, 0);
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	must(vm_set_slot(&vm, 1, 0, BASE, HUGE, memory));
	expect_pages(vcpu, memory, HUGE);
	expect_eq(madvise(memory + 100 * PAGE, PAGE, MADV_DONTNEED), 0);
	expect_eq(guest_load(vcpu, BASE + 99 * PAGE), 99 * PAGE);
	expect_eq(guest_load(vcpu, BASE + 100 * PAGE), 0);
	expect_eq(guest_load(vcpu, BASE + 101 * PAGE), 101 * PAGE);
}

/* ---- while a vCPU runs ---- */

/* Copies a word from the slot to RAM until RAM says stop. */
PAYLOAD(64, copy_loop,
	"sti\n"
	"1: mov (%rbx), %eax; mov %eax, (%rcx); cmpl $0, (%rdx); je 1b\n"
	"hlt\n");

/* Calls what is in the slot, and says what it returned, until RAM says stop. */
PAYLOAD(64, call_loop,
	"sti\n"
	"1: call *%rbx; mov %eax, (%rcx); cmpl $0, (%rdx); je 1b\n"
	"hlt\n");

#define SHOWN (VM_FREE)
#define STOP  (VM_FREE + PAGE)

static void *run_until_halt(void *argument)
{
	struct vcpu *vcpu = argument;
	int result;

	while ((result = vcpu_run(vcpu)) != KVM_EXIT_HLT) {
		/* While no slot is there the guest reads from nowhere. */
		if (result == KVM_EXIT_MMIO) {
			expect_eq(vcpu->run->mmio.phys_addr, BASE);
			memset(vcpu->run->mmio.data, 0xff, 8);
		} else {
			expect_errno(result, EINTR);
		}
	}
	return NULL;
}

static void run_loop(struct vcpu *vcpu, void *(*function)(void *vcpu))
{
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rbx = BASE;
	regs.rcx = SHOWN;
	regs.rdx = STOP;
	vcpu_set_regs(vcpu, &regs);
	vcpu_in_thread(vcpu, function);
}

static struct vcpu *prepare_copying(struct vm *vm, uint8_t **memory)
{
	struct vcpu *vcpu = start(vm, 0, memory);

	(*memory)[0] = 1;
	vcpu_start(vcpu, 64, copy_loop, copy_loop_end);
	return vcpu;
}

static struct vcpu *start_copying(struct vm *vm, uint8_t **memory)
{
	struct vcpu *vcpu = prepare_copying(vm, memory);

	run_loop(vcpu, run_until_halt);
	return vcpu;
}

/* Waits until the guest has seen a value. */
static void await_shown(struct vm *vm, uint32_t value)
{
	const uint32_t *shown = (const uint32_t *)(vm->ram + SHOWN);
	uint32_t now = __atomic_load_n(shown, __ATOMIC_ACQUIRE);

	while (now != value) {
		now = access_await(shown, now);
	}
}

static void stop_copying(struct vcpu *vcpu)
{
	__atomic_store_n((uint32_t *)(vcpu->vm->ram + STOP), 1, __ATOMIC_RELEASE);
	vcpu_join(vcpu);
}

static void slot_is_replaced_while_running(void)
{
	struct vm vm;
	uint8_t *memory, *other = vm_memory(BYTES);
	struct vcpu *vcpu = start_copying(&vm, &memory);

	await_shown(&vm, 1);
	other[0] = 2;
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	must(vm_set_slot(&vm, 1, 0, BASE, BYTES, other));
	await_shown(&vm, 2);
	memory[0] = 3;
	other[0] = 4;
	await_shown(&vm, 4);
	stop_copying(vcpu);
}

static void slot_is_deleted_while_running(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_copying(&vm, &memory);

	await_shown(&vm, 1);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	await_shown(&vm, UINT32_MAX);
	must(vm_set_slot(&vm, 1, 0, BASE, BYTES, memory));
	await_shown(&vm, 1);
	stop_copying(vcpu);
}

static void memory_is_dropped_while_running(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = start_copying(&vm, &memory);

	await_shown(&vm, 1);
	expect_eq(madvise(memory, PAGE, MADV_DONTNEED), 0);
	await_shown(&vm, 0);
	memory[0] = 5;
	await_shown(&vm, 5);
	stop_copying(vcpu);
}

static void memory_is_replaced_while_running(void)
{
	struct vm vm;
	uint8_t *memory, *other;
	struct vcpu *vcpu = start_copying(&vm, &memory);

	await_shown(&vm, 1);
	other = vm_memory(PAGE);
	other[0] = 6;
	expect(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory) == memory);
	await_shown(&vm, 6);
	stop_copying(vcpu);
}

static atomic_bool faulted;

static void *run_through_faults(void *argument)
{
	struct vcpu *vcpu = argument;
	int result;

	while ((result = vcpu_run(vcpu)) != KVM_EXIT_HLT) {
		expect_errno(result, EFAULT);
		atomic_store(&faulted, true);
	}
	return NULL;
}

static void memory_is_unmapped_while_running(void)
{
	struct vm vm;
	uint8_t *memory;
	struct vcpu *vcpu = prepare_copying(&vm, &memory);

	atomic_store(&faulted, false);
	run_loop(vcpu, run_through_faults);
	await_shown(&vm, 1);
	expect_eq(munmap(memory, BYTES), 0);
	while (!atomic_load(&faulted)) {
		sched_yield();
	}
	expect(mmap(memory, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		    -1, 0) == memory);
	memory[0] = 7;
	await_shown(&vm, 7);
	stop_copying(vcpu);
}

/* mov, ret */
static void put_code(uint8_t *memory, uint8_t value)
{
	const uint8_t code[] = {0xb8, value, 0, 0, 0, 0xc3};

	memcpy(memory, code, sizeof(code));
}

static void code_is_replaced_while_running(void)
{
	struct vm vm;
	uint8_t *memory, *other;
	struct vcpu *vcpu = start(&vm, 0, &memory);

	put_code(memory, 1);
	vcpu_start(vcpu, 64, call_loop, call_loop_end);
	run_loop(vcpu, run_until_halt);
	await_shown(&vm, 1);
	for (uint8_t value = 2; value < 6; value++) {
		other = vm_memory(PAGE);
		put_code(other, value);
		expect(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory) == memory);
		await_shown(&vm, value);
	}
	stop_copying(vcpu);
}

const struct test_case backing_cases[] = {
	{"backing/read_only_slot_is_read", "KVM API 4.35", read_only_slot_is_read},
	{"backing/read_only_store_of_1_byte", "KVM API 4.35", read_only_store_of_1_byte},
	{"backing/read_only_store_of_2_bytes", "KVM API 4.35", read_only_store_of_2_bytes},
	{"backing/read_only_store_of_4_bytes", "KVM API 4.35", read_only_store_of_4_bytes},
	{"backing/read_only_store_of_8_bytes", "KVM API 4.35", read_only_store_of_8_bytes},
	{"backing/read_only_read_modify_write", "KVM API 4.35", read_only_read_modify_write},
	{"backing/read_only_code_runs", "KVM API 4.35", read_only_code_runs},
	{"backing/read_only_slot_beside_a_writable_one", "KVM API 4.35",
	 read_only_slot_beside_a_writable_one},
	{"backing/becoming_writable_is_refused", "KVM API 4.35", becoming_writable_is_refused},
	{"backing/writable_after_a_new_start", "KVM API 4.35", writable_after_a_new_start},
	{"backing/read_only_after_a_new_start", "KVM API 4.35", read_only_after_a_new_start},
	{"backing/dropped_memory_is_zero", "KVM API 4.35", dropped_memory_is_zero},
	{"backing/remapped_memory_is_seen", "KVM API 4.35", remapped_memory_is_seen},
	{"backing/unmapped_memory_is_a_fault", "KVM API 4.35", unmapped_memory_is_a_fault},
	{"backing/fault_leaves_the_registers", "KVM API 4.35", fault_leaves_the_registers},
	{"backing/protected_memory_is_read", "KVM API 4.35", protected_memory_is_read},
	{"backing/protected_memory_is_not_written", "KVM API 4.35",
	 protected_memory_is_not_written},
	{"backing/page_read_then_written_by_the_host", "KVM API 4.35",
	 page_read_then_written_by_the_host},
	{"backing/shared_file_is_shared", "KVM API 4.35", shared_file_is_shared},
	{"backing/truncated_file_is_a_fault", "KVM API 4.35", truncated_file_is_a_fault},
	{"backing/large_pages", "KVM API 4.35", large_pages},
	{"backing/large_pages_out_of_step", "KVM API 4.35", large_pages_out_of_step},
	{"backing/slot_ends_inside_of_a_large_page", "KVM API 4.35",
	 slot_ends_inside_of_a_large_page},
	{"backing/large_page_loses_a_small_one", "KVM API 4.35", large_page_loses_a_small_one},
	{"backing/slot_is_replaced_while_running", "KVM API 4.35", slot_is_replaced_while_running},
	{"backing/slot_is_deleted_while_running", "KVM API 4.35", slot_is_deleted_while_running},
	{"backing/memory_is_dropped_while_running", "KVM API 4.35",
	 memory_is_dropped_while_running},
	{"backing/memory_is_replaced_while_running", "KVM API 4.35",
	 memory_is_replaced_while_running},
	{"backing/memory_is_unmapped_while_running", "KVM API 4.35",
	 memory_is_unmapped_while_running},
	{"backing/code_is_replaced_while_running", "KVM API 4.35", code_is_replaced_while_running},
	TEST_END,
};
