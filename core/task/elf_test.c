#include "core/task/elf.h"

#include <errno.h>
#include <linux/elf.h>
#include <string.h>

#include "core/mem/space.h"
#include "tests/unit.h"

struct image {
	struct elf64_hdr h;
	struct elf64_phdr p[2];
};

/* Text at 0x400000, data with zeros behind it at 0x403800. */
static struct image good(void)
{
	struct image i = {
		.h = {.e_type = ET_EXEC,
		      .e_machine = EM_X86_64,
		      .e_entry = 0x400100,
		      .e_phoff = offsetof(struct image, p),
		      .e_phentsize = sizeof(struct elf64_phdr),
		      .e_phnum = 2},
		.p = {{.p_type = PT_LOAD,
		       .p_flags = PF_R | PF_X,
		       .p_vaddr = 0x400000,
		       .p_filesz = 0x1234,
		       .p_memsz = 0x1234},
		      {.p_type = PT_LOAD,
		       .p_flags = PF_R | PF_W,
		       .p_offset = 0x1800,
		       .p_vaddr = 0x403800,
		       .p_filesz = 0x100,
		       .p_memsz = 0x3000}},
	};

	memcpy(i.h.e_ident, ELFMAG, SELFMAG);
	i.h.e_ident[EI_CLASS] = ELFCLASS64;
	i.h.e_ident[EI_DATA] = ELFDATA2LSB;
	i.h.e_ident[EI_VERSION] = EV_CURRENT;
	return i;
}

static int checked(const struct image *i, struct elf *e)
{
	return elf_check((const uint8_t *)i, sizeof(*i), 0x2000, e);
}

static void test_segments_are_laid_out(void **state)
{
	struct image i = good();
	struct elf e;

	(void)state;
	assert_int_equal(checked(&i, &e), 0);
	assert_int_equal(e.segment_count, 2);
	assert_int_equal(e.segment[0].map_len, 0x2000);
	assert_int_equal(e.segment[0].prot, SPACE_READ | SPACE_EXEC);
	assert_int_equal(e.segment[1].address, 0x403000);
	assert_int_equal(e.segment[1].offset, 0x1000);
	assert_int_equal(e.segment[1].map_len, 0x1000);
	assert_int_equal(e.segment[1].data_end, 0x403900);
	assert_int_equal(e.segment[1].memory_end, 0x406800);
	assert_int_equal(e.headers, 0x400000 + i.h.e_phoff);
	assert_int_equal(e.end, 0x407000);
	assert_false(e.is_relative);
}

#define REFUSES(change)                                      \
	do {                                                 \
		struct image i = good();                     \
		struct elf e;                                \
                                                             \
		change;                                      \
		assert_int_equal(checked(&i, &e), -ENOEXEC); \
	} while (0)

static void test_what_cannot_run_is_refused(void **state)
{
	struct image whole = good();
	struct elf out;

	(void)state;
	REFUSES(i.h.e_ident[0] = 0);
	REFUSES(i.h.e_machine = EM_386);
	REFUSES(i.h.e_phoff = UINT64_MAX - 8);
	REFUSES(i.h.e_phnum = 200);
	REFUSES(i.h.e_entry = 0);
	REFUSES(i.p[0].p_type = PT_INTERP);
	REFUSES(i.p[0].p_flags = PF_R | PF_W | PF_X);
	REFUSES(i.p[0].p_vaddr = 0);
	REFUSES(i.p[0].p_offset = 8);
	REFUSES(i.p[0].p_filesz = 0x1235);
	REFUSES(i.p[1].p_offset = UINT64_MAX - 0x7ff);
	REFUSES(i.p[1].p_memsz = UINT64_MAX);
	REFUSES(i.p[1].p_vaddr = 0x400800);
	REFUSES(i.p[1].p_vaddr = 0xffff800000000800);
	for (size_t len = 0; len < sizeof(whole); len++) {
		assert_int_equal(elf_check((const uint8_t *)&whole, len, 0x2000, &out), -ENOEXEC);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments_are_laid_out),
		cmocka_unit_test(test_what_cannot_run_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
