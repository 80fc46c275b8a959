#include "vmm/boot/boot.h"

#include <errno.h>
#include <string.h>

#include "lib/base/check.h"
#include "vmm/board/layout.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/elf_pvh.h"
#include "vmm/boot/file.h"
#include "vmm/boot/place.h"
#include "vmm/log.h"

/* What people give by mistake, by what stands at some offset of it. */
static const struct {
	unsigned offset, len;
	const char *magic, *what;
} mistakes[] = {
	{0, 2, "\x1f\x8b", "it is compressed by gzip; unpack it with gunzip"},
	{0, 4, "\x28\xb5\x2f\xfd", "it is compressed by zstd; unpack it with unzstd"},
	{0, 6, "\xfd\x37zXZ\0", "it is compressed by xz; unpack it with unxz"},
	{0, 3, "BZh", "it is compressed by bzip2; unpack it with bunzip2"},
	{0, 4, "\x04\x22\x4d\x18", "it is compressed by lz4; unpack it with unlz4"},
	{0, 4, "\x02\x21\x4c\x18", "it is compressed by lz4; unpack it with unlz4"},
	{0x38, 4, "ARM\x64", "it is for ARM64; give one for x86-64"},
	{0x38, 4, "RSC\x05", "it is for RISC-V; give one for x86-64"},
	{0x24, 4, "\x18\x28\x6f\x01", "it is for 32-bit ARM; give one for x86-64"},
	{0, 4, "\x27\x05\x19\x56", "it is a U-Boot image; give a bzImage for x86-64"},
	{4, 4, "zimg", "it is an EFI image for another CPU; give a bzImage for x86-64"},
	{0, 6, "070701", "it is a cpio archive; perhaps it is meant for --initrd"},
	{0, 8, "!<arch>\n", "it is a package or library; unpack it"},
	{0, 4, "QFI\xfb", "it is a disk image; perhaps it is meant for --disk"},
	{0, 2, "MZ", "it is an EFI program, or a kernel that was cut off; copy it again"},
};

static bool is_text(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (head[i] < ' ' && head[i] != '\n' && head[i] != '\t' && head[i] != '\r') {
			return false;
		}
	}
	return true;
}

static int no_kernel(const struct boot_file *f, const uint8_t *head, size_t len)
{
	const char *what = "it is neither a bzImage (vmlinuz) nor an ELF kernel (vmlinux)";

	if (is_text(head, len)) {
		what = "it is a text file; give a bzImage (vmlinuz) or ELF kernel (vmlinux)";
	}
	for (unsigned i = 0; i < ARRAY_SIZE(mistakes); i++) {
		if (mistakes[i].offset + mistakes[i].len <= len &&
		    memcmp(head + mistakes[i].offset, mistakes[i].magic, mistakes[i].len) == 0) {
			what = mistakes[i].what;
			break;
		}
	}
	log_error("'%s' is not a kernel for a guest: %s", f->path, what);
	return -EINVAL;
}

/** Files and decisions, from opening to loading. */
struct boot_job {
	struct boot_file kernel, initrd;
	bool elf;
	struct bzimage bzimage;
	struct elf_pvh pvh;
	struct boot_place place;
};

static void close_files(struct boot_job *job)
{
	boot_file_close(&job->initrd);
	boot_file_close(&job->kernel);
}

static int parse_kernel(struct boot_job *job)
{
	uint8_t head[BOOT_HEAD_SIZE];
	size_t len = MIN(sizeof(head), job->kernel.size);
	int error = boot_file_read(&job->kernel, 0, head, len);

	if (error != 0) {
		return error;
	}
	if (bzimage_is(head, len)) {
		return bzimage_parse(&job->kernel, head, len, &job->bzimage);
	}
	if (elf_pvh_is(head, len)) {
		job->elf = true;
		return elf_pvh_parse(&job->kernel, head, len, &job->pvh);
	}
	return no_kernel(&job->kernel, head, len);
}

/* On success the files are open. */
static int prepare(const struct vm_config *config, struct boot_job *job)
{
	*job = (struct boot_job){.kernel.fd = -1, .initrd.fd = -1};
	if (config->kernel == NULL) {
		log_error("no kernel to start: give one with --kernel");
		return -EINVAL;
	}
	int error = boot_file_open(&job->kernel, "kernel", config->kernel);
	if (error == 0) {
		error = parse_kernel(job);
	}
	if (error == 0 && config->initrd != NULL) {
		error = boot_file_open(&job->initrd, "initrd", config->initrd);
	}
	if (error == 0) {
		const struct boot_needs *needs = job->elf ? &job->pvh.needs : &job->bzimage.needs;

		error = boot_place(config, needs, job->initrd.size, &job->place);
	}
	if (error != 0) {
		close_files(job);
	}
	return error;
}

int boot_check(const struct vm_config *config)
{
	struct boot_job job;
	int error = prepare(config, &job);

	if (error == 0) {
		close_files(&job);
	}
	return error;
}

int boot_load(const struct vm_config *config, struct guest_memory *mem, gpa_t rsdp,
	      struct boot_entry *entry)
{
	struct boot_job job;

	check(guest_memory_size(mem) == config->memory_bytes);
	int error = prepare(config, &job);
	if (error != 0) {
		return error;
	}

	struct boot_place *place = &job.place;
	place->rsdp = rsdp;
	error = job.elf ? elf_pvh_load(&job.pvh, &job.kernel, place, mem, entry)
			: bzimage_load(&job.bzimage, &job.kernel, place, mem, entry);
	if (error == 0 && place->initrd_size > 0) {
		error = boot_file_load(&job.initrd, 0, mem, place->initrd, place->initrd_size);
	}
	/* With its terminating zero; the kernel lies above, so memory reaches this far. */
	if (error == 0) {
		error = guest_write(mem, gpa(LAYOUT_CMDLINE), place->cmdline,
				    place->cmdline_len + 1);
	}
	close_files(&job);
	return error;
}
