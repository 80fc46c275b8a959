#include "vmm/boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "lib/x86/regs.h"
#include "tests/capture.h"
#include "tests/unit.h"
#include "vmm/board/layout.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/e820.h"

#define RSDP	   gpa(0xe0000)
#define MEMORY	   (64 * MIB)
#define LOAD	   0x1000000
#define INIT_SIZE  (4 * MIB)
#define BZ_PAYLOAD 8192u
#define BZ_SIZE	   (1024 + BZ_PAYLOAD)

static char dir[] = "/tmp/boot_test.XXXXXX";
static char kernel_path[64], initrd_path[64];
static struct capture said; /* what was logged last */

/* ---- files ---- */

static void put_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static int set_up(void **unused)
{
	(void)unused;
	if (mkdtemp(dir) == NULL) {
		return -1;
	}
	snprintf(kernel_path, sizeof(kernel_path), "%s/kernel", dir);
	snprintf(initrd_path, sizeof(initrd_path), "%s/initrd", dir);
	return 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	unlink(kernel_path);
	unlink(initrd_path);
	return rmdir(dir);
}

/* A bzImage as small as it may be: one setup sector, a payload of a pattern. */
static void make_bzimage(uint8_t image[BZ_SIZE])
{
	struct boot_params *p = (struct boot_params *)image;

	memset(image, 0, BZ_SIZE);
	p->hdr = (struct setup_header){
		.setup_sects = 1,
		.syssize = BZ_PAYLOAD / 16,
		.boot_flag = 0xaa55,
		.jump = 0x66eb,
		.header = 0x53726448,
		.version = 0x20f,
		.loadflags = LOADED_HIGH | CAN_USE_HEAP,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.payload_offset = 0x300,
		.payload_length = 0x1000,
		.setup_data = 0x1234, /* not the kernel's to set */
		.pref_address = LOAD,
		.init_size = INIT_SIZE,
	};
	for (unsigned i = 0; i < BZ_PAYLOAD; i++) {
		image[1024 + i] = (uint8_t)(i * 7 + 1);
	}
}

static struct setup_header *header(uint8_t *image)
{
	return &((struct boot_params *)image)->hdr;
}

#define ELF_SIZE    4096u
#define ELF_CODE    0x400u
#define ELF_CODELEN 0x200u
#define ELF_ENTRY   (LOAD + 0x40)

static void put_note(uint8_t *p, uint32_t type, uint32_t desc_len, uint64_t value)
{
	store_le32(p, 4);
	store_le32(p + 4, desc_len);
	store_le32(p + 8, type);
	memcpy(p + 12, "Xen", 4);
	store_le(p + 16, value, desc_len);
}

/* Two segments and notes, of which the second one is the entry. */
static void make_elf64(uint8_t image[ELF_SIZE])
{
	Elf64_Ehdr *e = (Elf64_Ehdr *)image;
	Elf64_Phdr *p = (Elf64_Phdr *)(image + sizeof(*e));

	memset(image, 0, ELF_SIZE);
	memcpy(e->e_ident, ELFMAG, SELFMAG);
	e->e_ident[EI_CLASS] = ELFCLASS64;
	e->e_ident[EI_DATA] = ELFDATA2LSB;
	e->e_type = ET_EXEC;
	e->e_machine = EM_X86_64;
	e->e_phoff = sizeof(*e);
	e->e_phentsize = sizeof(*p);
	e->e_phnum = 3;
	p[0] = (Elf64_Phdr){.p_type = PT_LOAD,
			    .p_offset = ELF_CODE,
			    .p_vaddr = 0xffffffff81000000,
			    .p_paddr = LOAD,
			    .p_filesz = ELF_CODELEN,
			    .p_memsz = 0x3000};
	p[1] = (Elf64_Phdr){.p_type = PT_LOAD,
			    .p_offset = ELF_CODE + ELF_CODELEN,
			    .p_paddr = LOAD + 0x10000,
			    .p_filesz = 16,
			    .p_memsz = 16};
	p[2] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = 44, .p_align = 4};
	put_note(image + 0x200, 6, 4, 0x6c6c6f);
	put_note(image + 0x200 + 20, 18, 8, ELF_ENTRY);
	for (unsigned i = 0; i < ELF_CODELEN + 16; i++) {
		image[ELF_CODE + i] = (uint8_t)(i * 5 + 3);
	}
}

static void make_elf32(uint8_t image[ELF_SIZE])
{
	Elf32_Ehdr e = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB},
		.e_type = ET_EXEC,
		.e_machine = EM_386,
		.e_phoff = sizeof(e),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 2,
	};
	Elf32_Phdr p[2] = {
		{.p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = 20, .p_align = 4},
		{.p_type = PT_LOAD,
		 .p_offset = ELF_CODE,
		 .p_paddr = LOAD,
		 .p_filesz = ELF_CODELEN,
		 .p_memsz = ELF_CODELEN},
	};

	make_elf64(image);
	memcpy(image, &e, sizeof(e));
	memcpy(image + sizeof(e), p, sizeof(p));
	put_note(image + 0x200, 18, 4, ELF_ENTRY);
}

static Elf64_Phdr *phdr(uint8_t *image, unsigned i)
{
	return (Elf64_Phdr *)(image + sizeof(Elf64_Ehdr)) + i;
}

/* ---- running ---- */

static const struct vm_config defaults = {
	.kernel = kernel_path,
	.cmdline = "console=ttyS0 quiet",
	.memory_bytes = MEMORY,
	.cpus = 1,
};

/* boot_check() with what it logs in @said. */
static int check_quietly(const struct vm_config *config)
{
	capture_begin(&said);
	int result = boot_check(config);
	capture_end(&said);
	return result;
}

/* Refused with exactly one line that holds @words, and nothing is loaded either. */
static void refused_config(const struct vm_config *config, int error, const char *words)
{
	int result = check_quietly(config);

	if (result != error || strstr(said.text, words) == NULL) {
		fail_msg("result %d, wanted %d with '%s', said: %s", result, error, words,
			 said.text);
	}
	assert_ptr_equal(strchr(said.text, '\n'), said.text + strlen(said.text) - 1);
}

static void refused(const void *image, size_t len, const char *words)
{
	put_file(kernel_path, image, len);
	refused_config(&defaults, -EINVAL, words);
}

static struct guest_memory mem;

static struct boot_entry load(const struct vm_config *config)
{
	struct boot_entry entry = {0};

	assert_int_equal(boot_check(config), 0);
	assert_int_equal(guest_memory_init(&mem, config->memory_bytes), 0);
	assert_int_equal(boot_load(config, &mem, RSDP, &entry), 0);
	return entry;
}

static const void *at(uint64_t addr, uint64_t len)
{
	const void *p = guest_ptr(&mem, gpa(addr), len);

	assert_non_null(p);
	return p;
}

/* ---- what gets loaded ---- */

/* Walks the page tables that CR3 points to. */
static uint64_t translate(uint64_t cr3, uint64_t addr)
{
	uint64_t table = cr3;

	for (unsigned shift = 39; shift >= 21; shift -= 9) {
		uint64_t index = addr >> shift & 511;
		uint64_t e = load_le64(at(table + index * 8, 8));

		assert_true((e & (PTE_P | PTE_RW)) == (PTE_P | PTE_RW));
		if (shift == 21) {
			assert_true((e & PTE_PS) != 0);
			return (e & ~UINT64_C(0x1fffff)) | (addr & 0x1fffff);
		}
		assert_true((e & PTE_PS) == 0);
		table = e & ~UINT64_C(0xfff);
	}
	return 0;
}

static void loads_bzimage(void **unused)
{
	uint8_t image[BZ_SIZE];
	uint8_t initrd[5000];
	struct vm_config config = defaults;

	(void)unused;
	make_bzimage(image);
	put_file(kernel_path, image, sizeof(image));
	memset(initrd, 0x5a, sizeof(initrd));
	put_file(initrd_path, initrd, sizeof(initrd));
	config.initrd = initrd_path;

	struct boot_entry entry = load(&config);
	assert_int_equal(entry.mode, BOOT_LONG);
	assert_int_equal(entry.rip.v, LOAD + 0x200);
	assert_memory_equal(at(LOAD, BZ_PAYLOAD), image + 1024, BZ_PAYLOAD);

	const struct boot_params *p = at(entry.params.v, sizeof(*p));
	assert_int_equal(p->hdr.type_of_loader, 0xff);
	assert_int_equal(p->hdr.loadflags, LOADED_HIGH);
	assert_int_equal(p->hdr.setup_data, 0);
	assert_int_equal(p->hdr.code32_start, LOAD);
	assert_int_equal(p->hdr.header, 0x53726448);
	assert_int_equal(p->sentinel, 0);
	assert_int_equal(p->acpi_rsdp_addr, RSDP.v);
	assert_int_equal(p->ext_ramdisk_image, 0);
	assert_string_equal(at(p->hdr.cmd_line_ptr, 32), config.cmdline);

	/* The initrd ends in the last page of memory, and starts on a page. */
	assert_int_equal(p->hdr.ramdisk_size, sizeof(initrd));
	assert_int_equal(p->hdr.ramdisk_image, MEMORY - 8192);
	assert_memory_equal(at(p->hdr.ramdisk_image, sizeof(initrd)), initrd, sizeof(initrd));

	assert_int_equal(p->e820_entries, 5);
	assert_int_equal(p->e820_table[0].size, LAYOUT_EBDA);
	assert_int_equal(p->e820_table[2].addr, MIB);
	assert_int_equal(p->e820_table[2].size, MEMORY - MIB);
	assert_int_equal(p->e820_table[3].type, E820_RESERVED);
	guest_memory_fini(&mem);
}

static void registers_long(void **unused)
{
	uint8_t image[BZ_SIZE];
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	(void)unused;
	make_bzimage(image);
	put_file(kernel_path, image, sizeof(image));
	struct boot_entry entry = load(&defaults);

	memset(&regs, 0xee, sizeof(regs));
	memset(&sregs, 0, sizeof(sregs));
	sregs.apic_base = 0xfee00900;
	boot_entry_apply(&entry, &regs, &sregs);
	assert_int_equal(regs.rip, LOAD + 0x200);
	assert_int_equal(regs.rsi, LAYOUT_BOOT_PARAMS);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(regs.rbx, 0);
	assert_int_equal(sregs.apic_base, 0xfee00900);
	assert_int_equal(sregs.efer, EFER_LME | EFER_LMA);
	assert_int_equal(sregs.cr0, CR0_PE | CR0_ET | CR0_PG);
	assert_int_equal(sregs.cr4, CR4_PAE);
	assert_int_equal(sregs.cs.selector, 0x10);
	assert_int_equal(sregs.ss.selector, 0x18);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.cs.db, 0);

	/* What a reload of the segments would find. */
	assert_int_equal(load_le64(at(sregs.gdt.base + 0x10, 8)), 0x00af9b000000ffff);
	assert_int_equal(load_le64(at(sregs.gdt.base + 0x18, 8)), 0x00cf93000000ffff);
	assert_true(sregs.gdt.limit >= 0x1f);

	assert_int_equal(translate(sregs.cr3, 0), 0);
	assert_int_equal(translate(sregs.cr3, LOAD + 0x1234), LOAD + 0x1234);
	assert_int_equal(translate(sregs.cr3, 0xfee00020), 0xfee00020);
	assert_int_equal(translate(sregs.cr3, 0xffffffff), 0xffffffff);
	guest_memory_fini(&mem);
}

/* With RAM above the hole the initrd stays below what the kernel allows. */
static void initrd_stays_low(void **unused)
{
	uint8_t image[BZ_SIZE];
	struct vm_config config = defaults;

	(void)unused;
	make_bzimage(image);
	header(image)->initrd_addr_max = 0x37ffffff;
	put_file(kernel_path, image, sizeof(image));
	put_file(initrd_path, "x", 1);
	config.initrd = initrd_path;
	config.memory_bytes = 5 * GIB;

	struct boot_entry entry = load(&config);
	const struct boot_params *p = at(entry.params.v, sizeof(*p));
	assert_int_equal(p->hdr.ramdisk_image, 0x38000000 - 4096);
	assert_int_equal(p->e820_entries, 6);
	assert_int_equal(p->e820_table[2].size, 2 * GIB - MIB);
	assert_int_equal(p->e820_table[5].addr, 4 * GIB);
	assert_int_equal(p->e820_table[5].size, 3 * GIB);
	assert_int_equal(p->e820_table[5].type, E820_RAM);
	guest_memory_fini(&mem);
}

static void old_header_without_rsdp(void **unused)
{
	uint8_t image[BZ_SIZE];

	(void)unused;
	make_bzimage(image);
	header(image)->version = 0x20c;
	header(image)->setup_sects = 0; /* means 4 */
	header(image)->syssize = (BZ_SIZE - 5 * 512) / 16;
	put_file(kernel_path, image, sizeof(image));
	struct boot_entry entry = load(&defaults);
	const struct boot_params *p = at(entry.params.v, sizeof(*p));

	assert_int_equal(p->acpi_rsdp_addr, 0);
	assert_memory_equal(at(LOAD, 1024), image + 5 * 512, 1024);
	guest_memory_fini(&mem);
}

static void check_pvh(const uint8_t *image, const struct vm_config *config)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs = {0};
	struct boot_entry entry = load(config);

	assert_int_equal(entry.mode, BOOT_PROTECTED);
	assert_memory_equal(at(LOAD, ELF_CODELEN), image + ELF_CODE, ELF_CODELEN);

	boot_entry_apply(&entry, &regs, &sregs);
	assert_int_equal(regs.rip, ELF_ENTRY);
	assert_int_equal(regs.rsi, 0);
	assert_int_equal(sregs.cr0, CR0_PE | CR0_ET);
	assert_int_equal(sregs.efer, 0);
	assert_int_equal(sregs.cs.l, 0);
	assert_int_equal(sregs.cs.db, 1);
	assert_int_equal(load_le64(at(sregs.gdt.base + 0x10, 8)), 0x00cf9b000000ffff);

	const uint8_t *info = at(regs.rbx, 56);
	assert_int_equal(load_le32(info), 0x336ec578);
	assert_int_equal(load_le32(info + 4), 1);
	assert_string_equal(at(load_le64(info + 24), 32), config->cmdline);
	assert_int_equal(load_le64(info + 32), RSDP.v);
	assert_int_equal(load_le32(info + 48), 5);
	const uint8_t *map = at(load_le64(info + 40), (uint64_t)5 * 24);
	assert_int_equal(load_le64(map + 2 * 24), MIB);
	assert_int_equal(load_le64(map + 2 * 24 + 8), MEMORY - MIB);
	assert_int_equal(load_le32(map + 2 * 24 + 16), E820_RAM);

	if (config->initrd == NULL) {
		assert_int_equal(load_le32(info + 12), 0);
		return;
	}
	assert_int_equal(load_le32(info + 12), 1);
	const uint8_t *module = at(load_le64(info + 16), 32);
	assert_int_equal(load_le64(module), MEMORY - 4096);
	assert_int_equal(load_le64(module + 8), 6);
	assert_memory_equal(at(MEMORY - 4096, 6), "initrd", 6);
}

static void loads_elf(void **unused)
{
	_Alignas(8) uint8_t image[ELF_SIZE];
	struct vm_config config = defaults;

	(void)unused;
	put_file(initrd_path, "initrd", 6);
	config.initrd = initrd_path;
	make_elf64(image);
	put_file(kernel_path, image, sizeof(image));
	check_pvh(image, &config);
	assert_memory_equal(at(LOAD + 0x10000, 16), image + ELF_CODE + ELF_CODELEN, 16);
	guest_memory_fini(&mem);

	make_elf32(image);
	put_file(kernel_path, image, sizeof(image));
	check_pvh(image, &defaults);
	guest_memory_fini(&mem);
}

/* A kernel of the host, where there is one; YADO_TEST_KERNEL names another. */
static void loads_real_kernel(void **unused)
{
	glob_t found = {0};
	struct vm_config config = defaults;

	(void)unused;
	config.kernel = getenv("YADO_TEST_KERNEL");
	if (config.kernel == NULL && glob("/boot/vmlinuz-*", 0, NULL, &found) == 0) {
		config.kernel = found.gl_pathv[0];
	}
	if (config.kernel == NULL || access(config.kernel, R_OK) != 0) {
		skip();
	}
	config.memory_bytes = 512 * MIB;
	struct boot_entry entry = load(&config);
	assert_int_equal(entry.mode, BOOT_LONG);

	/* The compressed kernel's 64-bit entry starts with cld; cli. */
	assert_memory_equal(at(entry.rip.v, 2), "\xfc\xfa", 2);
	guest_memory_fini(&mem);
	if (found.gl_pathc > 0) {
		globfree(&found);
	}
}

/* ---- what gets refused ---- */

static void refuses_files(void **unused)
{
	struct vm_config config = defaults;

	(void)unused;
	unlink(kernel_path);
	refused_config(&config, -ENOENT, "cannot open kernel");
	config.kernel = dir;
	refused_config(&config, -EISDIR, "is a directory");
	config.kernel = "/dev/null";
	refused_config(&config, -EINVAL, "not a regular file");
	config.kernel = NULL;
	refused_config(&config, -EINVAL, "--kernel");
	refused("", 0, "is empty");

	/* Nobody writes to the FIFO: it must not block. */
	unlink(kernel_path);
	assert_int_equal(mkfifo(kernel_path, 0600), 0);
	refused_config(&defaults, -EINVAL, "not a regular file");
	unlink(kernel_path);

	if (geteuid() != 0) {
		put_file(kernel_path, "x", 1);
		chmod(kernel_path, 0);
		refused_config(&defaults, -EACCES, "Permission denied");
		unlink(kernel_path);
	}
}

static void refuses_other_kinds(void **unused)
{
	uint8_t image[BZ_SIZE];
	static const struct {
		unsigned offset;
		const char *magic, *words;
	} kinds[] = {
		{0, "\x1f\x8b\x08", "gunzip"},	   {0, "\x28\xb5\x2f\xfd", "unzstd"},
		{0, "\xfd\x37zXZ", "unxz"},	   {0, "BZh91", "bunzip2"},
		{0, "\x02\x21\x4c\x18", "unlz4"},  {0x38, "ARM\x64", "ARM64"},
		{0x38, "RSC\x05", "RISC-V"},	   {0x24, "\x18\x28\x6f\x01", "32-bit ARM"},
		{0, "\x27\x05\x19\x56", "U-Boot"}, {4, "zimg", "EFI image for another"},
		{0, "070701000", "--initrd"},	   {0, "!<arch>\n", "package"},
		{0, "QFI\xfb", "--disk"},	   {0, "MZ", "EFI program"},
		{0, "\x01\x02\x03", "neither"},
	};

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		memset(image, 0, sizeof(image));
		memcpy(image + kinds[i].offset, kinds[i].magic, strlen(kinds[i].magic));
		if (strcmp(kinds[i].words, "unxz") == 0) {
			image[5] = 0;
		}
		refused(image, sizeof(image), kinds[i].words);
	}
	refused("just some words\n", 16, "text file");
	refused("a", 1, "text file");
}

static void refuses_bzimages(void **unused)
{
	uint8_t good[BZ_SIZE], image[BZ_SIZE];

	(void)unused;
	make_bzimage(good);

	/* Cut off anywhere: in the header, in the setup, in the payload. */
	for (size_t len = 0x206; len < BZ_SIZE - 15; len += len < 0x400 ? 1 : 97) {
		refused(good, len, "is truncated");
	}
	refused(good, BZ_SIZE - 16, "is truncated");
	put_file(kernel_path, good, BZ_SIZE - 15);
	assert_int_equal(boot_check(&defaults), 0);

#define BROKEN(field, value, words)         \
	memcpy(image, good, sizeof(image)); \
	header(image)->field = value;       \
	refused(image, sizeof(image), words)

	BROKEN(version, 0x20b, "too old");
	BROKEN(version, 0x0200, "too old");
	BROKEN(xloadflags, XLF_CAN_BE_LOADED_ABOVE_4G, "32-bit kernel");
	BROKEN(loadflags, 0, "zImage");
	BROKEN(jump, 0x20eb, "header is too short");
	BROKEN(kernel_alignment, 0, "alignment");
	BROKEN(kernel_alignment, 0x300000, "alignment");
	BROKEN(pref_address, 0x1000, "preferred address");
	BROKEN(pref_address, UINT64_MAX, "preferred address");
	BROKEN(pref_address, 0xb0000000, "preferred address");
	BROKEN(syssize, 0, "payload");
	BROKEN(syssize, 0x30, "payload");
	BROKEN(payload_offset, BZ_PAYLOAD - 0xfff, "payload");
	BROKEN(payload_length, UINT32_MAX, "payload");
	BROKEN(syssize, UINT32_MAX, "is truncated");
	BROKEN(setup_sects, 255, "is truncated");
#undef BROKEN
}

static void refuses_elfs(void **unused)
{
	_Alignas(8) uint8_t good[ELF_SIZE], image[ELF_SIZE];
	Elf64_Ehdr *e = (Elf64_Ehdr *)image;

	(void)unused;
	make_elf64(good);
	for (size_t len = 4; len < ELF_CODE + ELF_CODELEN + 16; len += 3) {
		refused(good, len, "is truncated");
	}

#define BROKEN(target, value, words)        \
	memcpy(image, good, sizeof(image)); \
	target = value;                     \
	refused(image, sizeof(image), words)

	BROKEN(e->e_ident[EI_CLASS], 3, "damaged");
	BROKEN(e->e_ident[EI_DATA], ELFDATA2MSB, "big-endian");
	BROKEN(e->e_machine, EM_AARCH64, "another kind of CPU");
	BROKEN(e->e_type, ET_REL, "not an executable");
	BROKEN(e->e_phentsize, 32, "wrong size");
	BROKEN(e->e_phnum, 0, "program headers");
	BROKEN(e->e_phnum, 0xffff, "program headers");
	BROKEN(e->e_phoff, UINT64_MAX - 8, "is truncated");
	BROKEN(e->e_phnum, 2, "PVH entry");
	BROKEN(phdr(image, 0)->p_offset, UINT64_MAX, "is truncated");
	BROKEN(phdr(image, 0)->p_filesz, UINT64_MAX - ELF_CODE + 1, "is truncated");
	BROKEN(phdr(image, 0)->p_memsz, ELF_CODELEN - 1, "smaller than its contents");
	BROKEN(phdr(image, 0)->p_paddr, 0x1000, "no free memory");
	BROKEN(phdr(image, 0)->p_paddr, UINT64_MAX - 0xfff, "no free memory");
	BROKEN(phdr(image, 0)->p_paddr, 0x100000000, "no free memory");
	BROKEN(phdr(image, 0)->p_memsz, UINT64_MAX, "no free memory");
	BROKEN(phdr(image, 0)->p_paddr, LOAD + 0x100, "not in what it loads");
	BROKEN(phdr(image, 0)->p_type, PT_NULL, "not in what it loads");
	/* Notes: of another kind, of another name, cut off, with absurd lengths. */
	BROKEN(image[0x200 + 20 + 8], 17, "PVH entry");
	BROKEN(image[0x200 + 20 + 12], 'Y', "PVH entry");
	BROKEN(phdr(image, 2)->p_filesz, 43, "PVH entry");
	BROKEN(phdr(image, 2)->p_filesz, 0, "PVH entry");
	BROKEN(image[0x203], 0xff, "PVH entry");
	BROKEN(image[0x207], 0xff, "PVH entry");
#undef BROKEN
}

static void refuses_small_memory(void **unused)
{
	uint8_t image[BZ_SIZE];
	struct vm_config config = defaults;

	(void)unused;
	make_bzimage(image);
	put_file(kernel_path, image, sizeof(image));

	/* The kernel takes 16 MiB (its address) and 4 MiB. */
	config.memory_bytes = 20 * MIB - 4096;
	refused_config(&config, -ENOMEM, "kernel needs at least 20 MiB; use --memory 20M");
	config.memory_bytes = 20 * MIB;
	assert_int_equal(boot_check(&config), 0);
	config.memory_bytes = 4096;
	refused_config(&config, -ENOMEM, "--memory 20M");

	/* An initrd of 3 MiB and a bit takes four more. */
	put_file(initrd_path, "x", 1);
	assert_int_equal(truncate(initrd_path, (off_t)(3 * MIB + 1)), 0);
	config.initrd = initrd_path;
	config.memory_bytes = 23 * MIB;
	refused_config(&config, -ENOMEM, "kernel and initrd need at least 24 MiB");
	config.memory_bytes = 24 * MIB;
	assert_int_equal(boot_check(&config), 0);

	/* More than there can ever be below the hole. */
	assert_int_equal(truncate(initrd_path, (off_t)(3 * GIB)), 0);
	config.memory_bytes = 16 * GIB;
	refused_config(&config, -ENOMEM, "use a smaller initrd");

	/* Room enough, but not where the kernel wants it. */
	assert_int_equal(truncate(initrd_path, (off_t)(32 * MIB)), 0);
	header(image)->initrd_addr_max = 0x2ffffff;
	put_file(kernel_path, image, sizeof(image));
	refused_config(&config, -ENOMEM, "does not fit below 0x3000000");
	header(image)->initrd_addr_max = 0;
	put_file(kernel_path, image, sizeof(image));
	refused_config(&config, -ENOMEM, "does not fit below 0x1");

	/* A kernel that asks for more than 4 GiB. */
	header(image)->init_size = UINT32_MAX;
	put_file(kernel_path, image, sizeof(image));
	config.initrd = NULL;
	refused_config(&config, -ENOMEM, "more than the 2048 MiB");
}

static void refuses_initrd_and_cmdline(void **unused)
{
	uint8_t image[BZ_SIZE];
	struct vm_config config = defaults;
	char line[2049];

	(void)unused;
	make_bzimage(image);
	put_file(kernel_path, image, sizeof(image));
	unlink(initrd_path);
	config.initrd = initrd_path;
	refused_config(&config, -ENOENT, "cannot open initrd");
	put_file(initrd_path, "", 0);
	refused_config(&config, -EINVAL, "initrd");
	assert_non_null(strstr(said.text, "is empty"));
	config.initrd = dir;
	refused_config(&config, -EISDIR, "is a directory");

	config.initrd = NULL;
	memset(line, 'a', sizeof(line));
	line[2048] = '\0';
	config.cmdline = line;
	refused_config(&config, -E2BIG, "2048 bytes, the kernel takes at most 2047");
	line[2047] = '\0';
	assert_int_equal(boot_check(&config), 0);
	config.cmdline = NULL;
	assert_int_equal(boot_check(&config), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_bzimage),
		cmocka_unit_test(registers_long),
		cmocka_unit_test(initrd_stays_low),
		cmocka_unit_test(old_header_without_rsdp),
		cmocka_unit_test(loads_elf),
		cmocka_unit_test(loads_real_kernel),
		cmocka_unit_test(refuses_files),
		cmocka_unit_test(refuses_other_kinds),
		cmocka_unit_test(refuses_bzimages),
		cmocka_unit_test(refuses_elfs),
		cmocka_unit_test(refuses_small_memory),
		cmocka_unit_test(refuses_initrd_and_cmdline),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
