/*
 * From the first C function to the first program. The order is the point of this file: each step
 * stands on those above it. docs/core.md has it in words.
 */
#include <string.h>

#include "core/boot/boot.h"
#include "core/boot/cpio.h"
#include "core/boot/gunzip.h"
#include "core/boot/info.h"
#include "core/boot/options.h"
#include "core/boot/smp.h"
#include "core/hw/clock.h"
#include "core/hw/console.h"
#include "core/hw/context.h"
#include "core/hw/cpu_tables.h"
#include "core/hw/entry.h"
#include "core/hw/io_apic.h"
#include "core/hw/ipi.h"
#include "core/hw/irq.h"
#include "core/hw/local_apic.h"
#include "core/hw/power.h"
#include "core/hw/regs.h"
#include "core/hw/timer_device.h"
#include "core/hw/user.h"
#include "core/log.h"
#include "core/mem/heap.h"
#include "core/mem/kmap.h"
#include "core/mem/paging.h"
#include "core/mem/view.h"
#include "core/panic.h"
#include "core/task/start.h"
#include "lib/base/bytes.h"

#define MULTIBOOT2_MAGIC 0x36d76289
#define IMAGE_BASE	 UINT64_C(0xffffffff80000000)
#define MEMORY_MIN	 (16 * MIB)
#define LOW_END		 (1 * MIB)
#define BOOT_MAPPED	 (4 * GIB) /* by start.S */
#define BIOS_AREA	 0xe0000
#define RSDP_BYTES	 36

#define NO_CANARY __attribute__((no_stack_protector))

extern char kernel_start[], kernel_end[]; /* core.ld */

static struct {
	struct boot_options options;
	struct boot_info info;
	struct memmap ram;  /* all that the kernel uses */
	struct memmap free; /* of it, what nobody uses yet */
	struct memmap used; /* the rest */
	struct acpi_info acpi;
	hpa_t trampoline;
	const void *initramfs;
	size_t initramfs_len;
} boot;

void boot_start(uint32_t magic, uint32_t info);

const struct boot_options *boot_options(void)
{
	return &boot.options;
}

const void *boot_initramfs(size_t *len)
{
	*len = boot.initramfs_len;
	return boot.initramfs;
}

/* What the loader and the firmware left in memory, as far as start.S has mapped it. */
static const void *boot_memory(void *ctx, uint64_t pa, uint64_t len)
{
	(void)ctx;
	return pa != 0 && range_inside(pa, len, 0, BOOT_MAPPED) ? phys_ptr(hpa(pa)) : NULL;
}

static void complain(void *ctx, const char *word, const char *reason)
{
	(void)ctx;
	log_warning("command line: %s: %s", word, reason);
}

/* Step 1: what was I started with? The console comes first, to be able to say what is wrong. */
static void read_boot_info(uint32_t magic, uint32_t info)
{
	static char cmdline[BOOT_CMDLINE_BYTES];
	int r;

	console_init(0x3f8, 0);
	if (magic == MULTIBOOT2_MAGIC) {
		r = boot_info_multiboot2(&boot.info, info, boot_memory, NULL);
	} else {
		r = boot_info_pvh(&boot.info, info, boot_memory, NULL);
	}
	if (r != 0) {
		refuse("the boot loader's information cannot be understood.");
	}
	if (boot.info.cmdline_cut) {
		refuse("the command line is longer than %u bytes.", BOOT_CMDLINE_BYTES - 1);
	}
	/* Warnings have to wait for console=, so it is read twice. */
	log_set_level(0);
	strcpy(cmdline, boot.info.cmdline);
	r = options_parse(&boot.options, cmdline, complain, NULL);
	console_init(boot.options.console_port, boot.options.console_baud);
	log_set_level(boot.options.loglevel);
	strcpy(cmdline, boot.info.cmdline);
	if (r != 0 || options_parse(&boot.options, cmdline, complain, NULL) != 0) {
		refuse("the command line \"%s\" has a value that is not understood.",
		       boot.info.cmdline);
	}
}

/* Step 2: can the CPU do what Yado wants? */
static void check_cpu(void)
{
	const struct cpu_features *f = cpu_features();

	if (!f->nx) {
		refuse("this CPU has no NX (no-execute pages), or the firmware hides it.");
	}
	if (!f->svm || !f->npt) {
		refuse("this CPU has no %s, which guests need.",
		       f->svm ? "nested paging" : "AMD-V (SVM)");
	}
	/* What is not locked we turn on ourselves. */
	if ((~asm_rdmsr(MSR_VM_CR) & (VM_CR_SVMDIS | VM_CR_LOCK)) == 0) {
		refuse("AMD-V (SVM) is turned off in the firmware's setup.");
	}
}

static void take(uint64_t base, uint64_t len)
{
	uint64_t end = ALIGN_UP(base + len, PAGE_SIZE);

	base = ALIGN_DOWN(base, PAGE_SIZE);
	memmap_remove(&boot.free, base, end - base);
	memmap_add(&boot.used, base, end - base);
}

static hpa_t take_page(void *ctx)
{
	uint64_t pa = memmap_find(&boot.free, PAGE_SIZE, PAGE_SIZE, LOW_END, BOOT_MAPPED);

	(void)ctx;
	if (pa == PAGE_NONE) {
		return hpa(PAGE_NONE);
	}
	take(pa, PAGE_SIZE);
	memset(phys_ptr(hpa(pa)), 0, PAGE_SIZE);
	return hpa(pa);
}

/* Step 3: which RAM is ours, and what is in it already? */
static void plan_memory(void)
{
	uint64_t image = (uint64_t)kernel_start - IMAGE_BASE;
	uint64_t image_len = (uint64_t)kernel_end - (uint64_t)kernel_start;
	const struct boot_info *info = &boot.info;
	uint64_t module = ALIGN_DOWN(info->module, PAGE_SIZE);
	uint64_t module_end;

	if (!range_end(info->module, info->module_len, &module_end) ||
	    (info->module_len != 0 && !memmap_has(&info->ram, info->module, info->module_len))) {
		refuse("the module is not in this machine's memory.");
	}
	boot.ram = info->ram;
	memmap_remove(&boot.ram, PAGE_RAM_END, UINT64_MAX - PAGE_RAM_END);
	memmap_remove(&boot.ram, 0, PAGE_SIZE); /* so that no page has the address 0 */
	memmap_limit(&boot.ram, boot.options.memory_bytes);
	if (info->module_len != 0) {
		/* It may lie above what memory= allows: it is needed all the same. */
		memmap_add(&boot.ram, module, ALIGN_UP(module_end, PAGE_SIZE) - module);
	}
	uint64_t bytes = memmap_bytes(&boot.ram);
	if (bytes < MEMORY_MIN + info->module_len || !memmap_has(&boot.ram, image, image_len)) {
		refuse("%lu MiB of memory are too little, %lu MiB are the least.", bytes / MIB,
		       (MEMORY_MIN + info->module_len + MIB - 1) / MIB);
	}
	boot.free = boot.ram;
	take(image, image_len);
	if (info->module_len != 0) {
		take(info->module, info->module_len);
	}
	boot.trampoline = hpa(memmap_find(&boot.free, PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, LOW_END));
	if (!page_is_none(boot.trampoline)) {
		take(boot.trampoline.v, PAGE_SIZE);
	}
}

/* Step 4: ACPI's tables, while all of the first 4 GiB is mapped, whoever owns it. */
static void read_acpi(void)
{
	const struct boot_info *info = &boot.info;
	const void *rsdp = boot_memory(NULL, info->rsdp, RSDP_BYTES);
	size_t len = RSDP_BYTES;

	if (info->rsdp_copy_len != 0) {
		rsdp = info->rsdp_copy;
		len = info->rsdp_copy_len;
	} else if (rsdp == NULL) {
		int64_t at = acpi_find_rsdp(phys_ptr(hpa(BIOS_AREA)), LOW_END - BIOS_AREA);
		if (at >= 0) {
			rsdp = phys_ptr(hpa(BIOS_AREA + (uint64_t)at));
		}
	}
	if (rsdp == NULL || acpi_parse(&boot.acpi, rsdp, len, boot_memory, NULL) != 0) {
		log_warning("acpi: no tables that can be read");
	}
}

/* Step 5: page tables as they stay. */
static void start_paging(void)
{
	if (paging_init(boot.ram.range, boot.ram.n, take_page, NULL) != 0) {
		refuse("there is no memory for page tables.");
	}
}

static void unpack(const void *packed, size_t packed_len)
{
	uint64_t len = gunzip_size(packed, packed_len);
	uint64_t work =
		memmap_find(&boot.free, GUNZIP_WORK_BYTES, PAGE_SIZE, LOW_END, PAGE_RAM_END);

	/* Work space is free again afterwards: taken from both ends of it, one does not meet it. */
	if (work == PAGE_NONE) {
		refuse("there is no memory to unpack the initramfs.");
	}
	uint64_t to = memmap_find(&boot.free, MAX(len, 1), PAGE_SIZE, work + GUNZIP_WORK_BYTES,
				  PAGE_RAM_END);
	if (to == PAGE_NONE) {
		refuse("unpacked, the initramfs of %lu MiB does not fit into memory.", len / MIB);
	}
	size_t out_len = len;
	if (gunzip(packed, packed_len, phys_ptr(hpa(to)), &out_len, phys_ptr(hpa(work))) != 0) {
		refuse("the initramfs is broken: it cannot be unpacked.");
	}
	take(to, out_len);
	memmap_remove(&boot.used, ALIGN_DOWN(boot.info.module, PAGE_SIZE),
		      ALIGN_UP(boot.info.module + packed_len, PAGE_SIZE) -
			      ALIGN_DOWN(boot.info.module, PAGE_SIZE));
	boot.initramfs = phys_ptr(hpa(to));
	boot.initramfs_len = out_len;
}

/* Step 6: the initramfs, before there is an allocator that could take the room it needs. */
static void find_initramfs(void)
{
	const void *module = phys_ptr(hpa(boot.info.module));
	size_t len = boot.info.module_len;
	struct cpio_entry entry;
	struct cpio c;
	int r;

	if (len == 0) {
		return;
	}
	if (gunzip_is_packed(module, len)) {
		unpack(module, len);
	} else {
		boot.initramfs = module;
		boot.initramfs_len = len;
	}
	cpio_init(&c, boot.initramfs, boot.initramfs_len);
	do {
		r = cpio_next(&c, &entry);
	} while (r > 0);
	if (r != 0) {
		refuse("the initramfs is broken at byte %lu of %lu: no cpio entry (newc).",
		       c.position, c.len);
	}
}

/* Step 7: the allocators. */
static void start_memory(void)
{
	uint64_t bytes = page_area_bytes(boot.ram.range, boot.ram.n, boot.used.n + 1);
	uint64_t area = memmap_find(&boot.free, bytes, PAGE_SIZE, LOW_END, PAGE_RAM_END);

	if (area == PAGE_NONE || boot.ram.is_full || boot.free.is_full || boot.used.is_full) {
		refuse("the memory map is in too many pieces.");
	}
	take(area, bytes);
	page_init(boot.ram.range, boot.ram.n, boot.used.range, boot.used.n, phys_ptr(hpa(area)));
	heap_start();
	object_start();
	space_start();
}

/* Step 8: what makes interrupts and time. */
static void start_devices(void)
{
	int r = local_apic_init(boot.acpi.lapic_base);

	if (r != 0) {
		refuse("this machine has no local APIC.");
	}
	io_apic_mask_pics(&boot.acpi);
	local_apic_start();
	cpu_boot.apic_id = local_apic_id();
	power_init(&boot.acpi);
	io_apic_init(&boot.acpi);
	ipi_init();
	clock_init(&boot.acpi);
	timer_device_init();
	timer_device_start();
}

static void say_summary(void)
{
	const struct cpu_features *f = cpu_features();

	log_info("core %s, by %s on %s; %u CPU%s, %s, TSC %lu MHz by %s%s%s", YADO_VERSION,
		 boot.info.loader, f->vendor, cpu_count(), cpu_count() == 1 ? "" : "s",
		 local_apic_is_x2apic() ? "x2APIC" : "xAPIC", clock_tsc_khz() / 1000,
		 clock_source(), f->tsc_deadline ? ", TSC deadlines" : "", f->pcid ? ", PCID" : "");
	log_info("memory: %lu MiB, %lu KiB in use; initramfs %lu KiB", page_total() >> 8,
		 (page_total() - page_used(PAGE_USE_FREE)) << 2, boot.initramfs_len / KIB);
	log_info("svm: %u ASIDs%s%s%s%s", f->svm_asids, f->nrips ? ", next RIP" : "",
		 f->decode_assists ? ", decode assists" : "",
		 f->flush_by_asid ? ", flush by ASID" : "", f->vgif ? ", virtual GIF" : "");
}

static _Noreturn void run_cpu(void)
{
	task_start_cpu();
}

/* The first thread, on a stack with a guard page. */
static void boot_thread(void *arg)
{
	(void)arg;
	irq_on();
	if (!console_connect()) {
		log_notice("console: no interrupts");
	}
	task_init();
	if (!page_is_none(boot.trampoline)) {
		smp_start(&boot.acpi, boot.trampoline, boot.options.cpus, run_cpu);
		page_release(boot.trampoline.v, PAGE_SIZE);
	}
	say_summary();
	task_start();
}

static NO_CANARY void set_canary(void)
{
	uint64_t value = asm_rdtsc() * UINT64_C(0x9e3779b97f4a7c15);

	for (unsigned i = 0; cpu_features()->rdrand && i < 10; i++) {
		uint64_t random;
		if (asm_rdrand(&random)) {
			value ^= random;
			break;
		}
	}
	/* A zero byte stops strings that run over. */
	cpu_boot.stack_canary = value & ~UINT64_C(0xff);
}

/* Its own canary changes under way, so it must not have one; it does not return. */
NO_CANARY void boot_start(uint32_t magic, uint32_t info)
{
	struct context first, next;

	set_canary();
	read_boot_info(magic, info);
	cpu_read_features();
	check_cpu();
	entry_init();
	cpu_start_boot();
	user_init();
	plan_memory();
	read_acpi();
	start_paging();
	fpu_init();
	find_initramfs();
	start_memory();
	start_devices();
	uint64_t stack = kmap_stack_create();
	if (stack == 0 || cpu_guard_stacks() != 0) {
		refuse("there is no memory for a stack.");
	}
	cpu_set_kernel_stack(stack);
	context_init(&next, stack, boot_thread, NULL);
	context_switch(&first, &next);
}
