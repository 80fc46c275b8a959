#include "vmm/board/cpu_model.h"

#include <errno.h>
#include <string.h>

#include "lib/base/types.h"
#include "lib/x86/cpuid.h"
#include "tests/capture.h"
#include "tests/unit.h"

#define ROOM 64
#define RAM  (4 * GIB)
#define AMD  ARRAY_SIZE(amd_entries)

union table {
	struct kvm_cpuid2 header;
	uint8_t room[sizeof(struct kvm_cpuid2) + ROOM * sizeof(struct kvm_cpuid_entry2)];
};

/* Function, index, flags, and the four registers. What Linux 6.1 says on an AMD host that QEMU 7.2
 * emulates (-cpu max,+svm); zeros left out. */
static const uint32_t amd_entries[][7] = {
	{0x0, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65},
	{0x1, 0, 0, 0x60fb1, 0x800, 0x76f83203, 0xf8bfbfd},
	{0x6, 0, 0, 0x4, 0x0, 0x0, 0x0},
	{0x7, 0, 1, 0x0, 0x19803ab, 0x1020c, 0x20000000},
	{0xd, 0, 1, 0x207, 0xa88, 0xa88, 0x0},
	{0xd, 1, 1, 0x5, 0x0, 0x0, 0x0},
	{0xd, 2, 1, 0x100, 0x240, 0x0, 0x0},
	{0xd, 9, 1, 0x8, 0xa80, 0x0, 0x0},
	{0x80000000, 0, 0, 0x8000000a, 0x68747541, 0x444d4163, 0x69746e65},
	{0x80000001, 0, 0, 0x60fb1, 0x0, 0x75, 0xedd3fbfd},
	{0x80000006, 0, 0, 0x0, 0x42004200, 0x2008140, 0x808140},
	{0x80000008, 0, 0, 0x3928, 0x4000000, 0x0, 0x0},
	{0x8000000a, 0, 0, 0x1, 0x8, 0x0, 0x10010021},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d},
	{0x40000001, 0, 0, 0x1007efb, 0x0, 0x0, 0x0},
};

/* The like for an Intel host of 8 threads on 4 cores, whose caches leaf 4 describes. */
static const uint32_t intel_entries[][7] = {
	{0x0, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69},
	{0x1, 0, 0, 0x906ea, 0x05100800, 0x76fa3203, 0x1f8bfbff},
	{0x4, 0, 1, 0x1c004121, 0x1c0003f, 0x3f, 0x0},
	{0x4, 1, 1, 0x1c004122, 0x1c0003f, 0x3f, 0x0},
	{0x4, 2, 1, 0x1c004143, 0xc0003f, 0x3ff, 0x0},
	{0x4, 3, 1, 0x1c03c163, 0x3c0003f, 0x2fff, 0x6},
	{0x4, 4, 1, 0x0, 0x0, 0x0, 0x0},
	{0x6, 0, 0, 0x4, 0x0, 0x0, 0x0},
	{0x7, 0, 1, 0x0, 0x29c67af, 0x0, 0x8c000000},
	{0xb, 0, 1, 0x1, 0x2, 0x100, 0x5},
	{0xb, 1, 1, 0x4, 0x8, 0x201, 0x5},
	{0xd, 0, 1, 0x1f, 0x440, 0x440, 0x0},
	{0xd, 1, 1, 0xf, 0x340, 0x0, 0x0},
	{0xd, 2, 1, 0x100, 0x240, 0x0, 0x0},
	{0x1f, 0, 1, 0x1, 0x2, 0x100, 0x5},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d},
	{0x40000001, 0, 0, 0x1007efb, 0x0, 0x0, 0x0},
	{0x80000000, 0, 0, 0x80000008, 0x0, 0x0, 0x0},
	{0x80000001, 0, 0, 0x0, 0x0, 0x121, 0x2c100800},
	{0x80000007, 0, 0, 0x0, 0x0, 0x0, 0x100},
	{0x80000008, 0, 0, 0x3027, 0x0, 0x0, 0x0},
};

static union table supported;
static struct capture said;

static void use(const uint32_t (*words)[7], unsigned n)
{
	memset(&supported, 0, sizeof(supported));
	assert_true(n <= ROOM);
	supported.header.nent = n;
	for (unsigned i = 0; i < n; i++) {
		memcpy(&supported.header.entries[i], words[i], sizeof(words[i]));
	}
}

static int amd(void **unused)
{
	(void)unused;
	use(amd_entries, AMD);
	return 0;
}

static int intel(void **unused)
{
	(void)unused;
	use(intel_entries, ARRAY_SIZE(intel_entries));
	return 0;
}

static union table build(enum cpu_model model, unsigned ncpus, unsigned index, uint64_t ram_end)
{
	union table out;

	memset(&out, 0xee, sizeof(out));
	out.header.nent = ROOM;
	assert_int_equal(
		cpu_model_build(model, &supported.header, ncpus, index, ram_end, &out.header), 0);
	assert_true(out.header.nent <= ROOM);
	return out;
}

static struct kvm_cpuid_entry2 *find(union table *t, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < t->header.nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->header.entries[i];

		if (e->function == function && e->index == index) {
			return e;
		}
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *get(union table *t, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = find(t, function, index);

	if (e == NULL) {
		fail_msg("leaf 0x%x/%u is missing", function, index);
	}
	return e;
}

static void check_leaf(union table *t, uint32_t function, uint32_t index, uint32_t eax,
		       uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	struct kvm_cpuid_entry2 *e = get(t, function, index);

	if (e->eax != eax || e->ebx != ebx || e->ecx != ecx || e->edx != edx) {
		fail_msg("leaf 0x%x/%u: %x %x %x %x", function, index, e->eax, e->ebx, e->ecx,
			 e->edx);
	}
}

static void check_topology(union table *t, unsigned bits, unsigned ncpus, unsigned index)
{
	check_leaf(t, CPUID_TOPOLOGY, 0, 0, 1, 0x100, index);
	check_leaf(t, CPUID_TOPOLOGY, 1, bits, ncpus, 0x201, index);
	check_leaf(t, CPUID_TOPOLOGY, 2, 0, 0, 2, index);
	assert_null(find(t, CPUID_TOPOLOGY_V2, 0));
	assert_int_equal(get(t, 1, 0)->ebx >> 24, index);
	assert_int_equal(get(t, 1, 0)->ebx >> 16 & 0xff, ncpus);
}

/* Each entry says whether its index counts, and none is there twice. */
static void well_formed(void **unused)
{
	(void)unused;
	for (enum cpu_model m = CPU_HOST; m <= CPU_X86_64_V3; m++) {
		union table t = build(m, 4, 1, RAM);

		for (unsigned i = 0; i < t.header.nent; i++) {
			struct kvm_cpuid_entry2 *e = &t.header.entries[i];

			assert_ptr_equal(find(&t, e->function, e->index), e);
			if (e->index != 0) {
				assert_int_equal(e->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
			}
			assert_int_equal(e->padding[0] | e->padding[1] | e->padding[2], 0);
		}
		assert_int_equal(t.header.padding, 0);
	}
}

/* The point of a named model: two providers, one CPUID. */
static void named_are_alike(void **unused)
{
	(void)unused;
	for (enum cpu_model m = CPU_X86_64_V2; m <= CPU_X86_64_V3; m++) {
		for (unsigned index = 0; index < 3; index++) {
			amd(NULL);
			union table a = build(m, 3, index, RAM);
			intel(NULL);
			union table b = build(m, 3, index, RAM);

			assert_int_equal(a.header.nent, b.header.nent);
			assert_memory_equal(a.header.entries, b.header.entries,
					    a.header.nent * sizeof(a.header.entries[0]));
		}
	}
}

/* The words are frozen: a saved VM has seen them. */
static void named_words(void **unused)
{
	union table t = build(CPU_X86_64_V2, 4, 2, RAM);

	(void)unused;
	check_leaf(&t, 0, 0, 0xb, 0x68747541, 0x444d4163, 0x69746e65);
	check_leaf(&t, 1, 0, 0x830f10, 0x02040800, 0x81b82201, 0x178bfbfd);
	check_leaf(&t, 6, 0, 4, 0, 0, 0);
	check_leaf(&t, 7, 0, 0, 0, 0, 0);
	check_topology(&t, 2, 4, 2);
	assert_null(find(&t, 0xd, 0));
	check_leaf(&t, 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	check_leaf(&t, 0x40000001, 0, 0x100000b, 0, 0, 0);
	check_leaf(&t, 0x80000000, 0, 0x8000001e, 0x68747541, 0x444d4163, 0x69746e65);
	check_leaf(&t, 0x80000001, 0, 0x830f10, 0, 0x400003, 0x2993fbfd);
	assert_memory_equal(&get(&t, 0x80000002, 0)->eax, "Yado virtual CPU", 16);
	assert_memory_equal(&get(&t, 0x80000003, 0)->eax, ", x86-64-v2\0\0\0\0", 16);
	check_leaf(&t, 0x80000007, 0, 0, 0, 0, 0);
	check_leaf(&t, 0x80000008, 0, 0x3028, 0, 0x2003, 0);
	check_leaf(&t, 0x8000001d, 3, 0xc163, 0x3c0003f, 0x3fff, 0);
	check_leaf(&t, 0x8000001e, 0, 2, 2, 0, 0);

	t = build(CPU_X86_64_V3, 4, 2, RAM);
	assert_int_equal(get(&t, 0, 0)->eax, 0xd);
	check_leaf(&t, 1, 0, 0x830f10, 0x02040800, 0xf7f83203, 0x178bfbfd);
	check_leaf(&t, 7, 0, 0, 0x3a9, 0, 0);
	check_leaf(&t, 0xd, 0, 7, 576, 832, 0);
	check_leaf(&t, 0xd, 1, 1, 0, 0, 0);
	check_leaf(&t, 0xd, 2, 256, 576, 0, 0);
	check_leaf(&t, 0x80000001, 0, 0x830f10, 0, 0x400023, 0x2993fbfd);
	assert_memory_equal(&get(&t, 0x80000003, 0)->eax, ", x86-64-v3\0\0\0\0", 16);
}

/* Counts that are no power of two, one CPU, and all of them. */
static void named_topology(void **unused)
{
	union table t = build(CPU_X86_64_V2, 1, 0, RAM);

	(void)unused;
	check_topology(&t, 0, 1, 0);
	assert_int_equal(get(&t, 1, 0)->edx & CPUID_1_EDX_HTT, 0);
	assert_int_equal(get(&t, 0x80000001, 0)->ecx & CPUID_EXT_ECX_CMP_LEGACY, 0);
	assert_int_equal(get(&t, 0x80000008, 0)->ecx, 0);

	t = build(CPU_X86_64_V2, 5, 4, RAM);
	check_topology(&t, 3, 5, 4);
	assert_int_equal(get(&t, 0x80000008, 0)->ecx, 0x3004);

	t = build(CPU_X86_64_V3, 64, 63, RAM);
	check_topology(&t, 6, 64, 63);
	assert_int_equal(get(&t, 0x80000008, 0)->ecx, 0x603f);
	assert_int_equal(get(&t, 0x8000001d, 3)->eax >> 14, 63);
	check_leaf(&t, 0x8000001e, 0, 63, 63, 0, 0);
}

static void address_bits(void **unused)
{
	union table t, out;

	(void)unused;
	t = build(CPU_X86_64_V2, 1, 0, TIB);
	assert_int_equal(get(&t, 0x80000008, 0)->eax, 0x3028);
	get(&supported, 0x80000008, 0)->eax = 0x302e;
	t = build(CPU_X86_64_V2, 1, 0, TIB + 4096);
	assert_int_equal(get(&t, 0x80000008, 0)->eax, 0x3029);
	t = build(CPU_X86_64_V2, 1, 0, TIB + 2 * GIB);
	assert_int_equal(get(&t, 0x80000008, 0)->eax, 0x3029);

	/* A host with fewer than the model runs what it can reach. */
	get(&supported, 0x80000008, 0)->eax = 0x3027;
	t = build(CPU_X86_64_V2, 1, 0, TIB / 2);
	assert_int_equal(get(&t, 0x80000008, 0)->eax, 0x3028);
	for (enum cpu_model m = CPU_HOST; m <= CPU_X86_64_V3; m++) {
		out.header.nent = ROOM;
		capture_begin(&said);
		int result = cpu_model_build(m, &supported.header, 1, 0, TIB / 2 + 1, &out.header);
		capture_end(&said);
		assert_int_equal(result, -ENOTSUP);
		assert_non_null(strstr(said.text, "39 bits"));
	}
}

static void host_amd(void **unused)
{
	union table t = build(CPU_HOST, 6, 5, RAM);

	(void)unused;
	check_topology(&t, 3, 6, 5);
	/* As the provider says, but for topology and what it emulates. */
	check_leaf(&t, 1, 0, 0x60fb1, 0x05060800, 0xf7f83203, 0x1f8bfbfd);
	check_leaf(&t, 7, 0, 0, 0x19803ab, 0x1020c, 0x20000000);
	check_leaf(&t, 0x80000001, 0, 0x60fb1, 0, 0x77, 0xedd3fbfd);
	check_leaf(&t, 0x80000008, 0, 0x3928, 0x4000000, 0x3005, 0);
	check_leaf(&t, 0x8000000a, 0, 1, 8, 0, 0x10010021);
	check_leaf(&t, 0x40000001, 0, 0x1007efb, 0, 0, 0);

	/* With the extended leaves of newer ones. */
	supported.header.entries[supported.header.nent++] =
		(struct kvm_cpuid_entry2){0x8000001d, 2, 1, 0x4143, 0x1c0003f, 0x3ff, 2, {0}};
	supported.header.entries[supported.header.nent++] =
		(struct kvm_cpuid_entry2){0x8000001d, 3, 1, 0x1c163, 0x3c0003f, 0x3fff, 1, {0}};
	supported.header.entries[supported.header.nent++] =
		(struct kvm_cpuid_entry2){0x8000001e, 0, 0, 9, 0x104, 0x300, 0, {0}};
	supported.header.entries[supported.header.nent++] =
		(struct kvm_cpuid_entry2){0x80000026, 0, 0, 1, 2, 0x100, 9, {0}};
	t = build(CPU_HOST, 6, 5, RAM);
	assert_int_equal(get(&t, 0x8000001d, 2)->eax, 0x143);
	assert_int_equal(get(&t, 0x8000001d, 3)->eax, 5 << 14 | 0x163);
	check_leaf(&t, 0x8000001e, 0, 5, 5, 0, 0);
	assert_null(find(&t, 0x80000026, 0));
}

static void host_intel(void **unused)
{
	union table t = build(CPU_HOST, 6, 1, RAM);

	(void)unused;
	assert_int_equal(get(&t, 0, 0)->eax, 0x1f);
	check_topology(&t, 3, 6, 1);
	/* L1 and L2 of one CPU, L3 of all; eight addressable cores. */
	assert_int_equal(get(&t, 4, 0)->eax, 7 << 26 | 0x121);
	assert_int_equal(get(&t, 4, 2)->eax, 7 << 26 | 0x143);
	assert_int_equal(get(&t, 4, 3)->eax, 7 << 26 | 7 << 14 | 0x163);
	assert_int_equal(get(&t, 4, 4)->eax, 0);
	assert_int_equal(get(&t, 0x80000001, 0)->ecx, 0x121);
	assert_int_equal(get(&t, 0x80000008, 0)->ecx, 0);
	assert_int_equal(get(&t, 0x80000007, 0)->edx, 0x100);
}

/* A provider whose leaves end before the topology leaf. */
static void host_old(void **unused)
{
	(void)unused;
	get(&supported, 0, 0)->eax = 7;
	union table t = build(CPU_HOST, 2, 1, RAM);
	assert_int_equal(get(&t, 0, 0)->eax, 0xb);
}

static void refuse(enum cpu_model model, const char *words)
{
	union table out = {.header.nent = ROOM};

	capture_begin(&said);
	int result = cpu_model_build(model, &supported.header, 1, 0, RAM, &out.header);
	capture_end(&said);
	if (result != -ENOTSUP || strstr(said.text, words) == NULL) {
		fail_msg("%d, wanted '%s', said: %s", result, words, said.text);
	}
	assert_ptr_equal(strchr(said.text, '\n'), said.text + strlen(said.text) - 1);
}

static void missing_features(void **unused)
{
	(void)unused;
	get(&supported, 7, 0)->ebx &= ~(UINT32_C(1) << 5 | UINT32_C(1) << 3);
	refuse(CPU_X86_64_V3, "--cpu x86-64-v3, it lacks: bmi1, avx2; use --cpu host or x86-64-v2");
	build(CPU_X86_64_V2, 1, 0, RAM);
	build(CPU_HOST, 1, 0, RAM);

	get(&supported, 1, 0)->ecx &= ~(UINT32_C(1) << 20);
	refuse(CPU_X86_64_V2, "--cpu x86-64-v2, it lacks: sse4.2; use --cpu host\n");

	/* Nothing at all is reported: still one line, however long the list. */
	supported.header.nent = 0;
	refuse(CPU_X86_64_V3, "it lacks: fpu");
}

static void too_little_room(void **unused)
{
	(void)unused;
	for (enum cpu_model m = CPU_HOST; m <= CPU_X86_64_V3; m++) {
		unsigned need = build(m, 4, 0, RAM).header.nent;

		for (unsigned room = 0; room <= need; room++) {
			union table out = {.header.nent = room};

			capture_begin(&said);
			int result = cpu_model_build(m, &supported.header, 4, 0, RAM, &out.header);
			capture_end(&said);
			assert_int_equal(result, room < need ? -E2BIG : 0);
			/* Nothing was written past the room. */
			for (unsigned i = room; i < ROOM; i++) {
				assert_int_equal(out.header.entries[i].function |
							 out.header.entries[i].eax,
						 0);
			}
		}
	}
}

#define ON(host, name) cmocka_unit_test_setup(name, host)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(amd, well_formed),	   ON(intel, well_formed),   ON(amd, named_are_alike),
		ON(amd, named_words),	   ON(amd, named_topology),  ON(amd, address_bits),
		ON(amd, host_amd),	   ON(intel, host_intel),    ON(amd, host_old),
		ON(amd, missing_features), ON(amd, too_little_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
