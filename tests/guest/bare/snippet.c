/* Single accesses and what they raise; see snippet.h. */
#include "tests/guest/bare/snippet.h"

/* What QEMU's TCG says of itself as -cpu max: an Athlon 64 that has SMAP, which no Athlon had. */
#define TCG_SIGNATURE 0x60fb1
#define LEAF7_SMAP    (1u << 20)

#define VENDOR_AMD   0x68747541 /* "Auth" */
#define VENDOR_HYGON 0x6f677948 /* "Hygo" */

__asm__(".pushsection .text\n"
	"access_read:	mov (%rdi), %al\n"
	"		ret\n"
	"access_write:	movb $0x5a, (%rdi)\n"
	"		ret\n"
	"access_fetch:	jmp *%rdi\n"
	".popsection");
uint64_t access_read(uint64_t va);
uint64_t access_write(uint64_t va);
uint64_t access_fetch(uint64_t va);

static uint64_t (*const accesses[])(uint64_t) = {access_read, access_write, access_fetch};

struct call {
	uint64_t (*function)(uint64_t);
	uint64_t argument, result;
	bool user;
};

static void do_call(void *argument)
{
	struct call *call = argument;

	if (call->user) {
		call->result = bare_in_user(call->function, call->argument);
	} else {
		call->function(call->argument);
	}
}

uint64_t access_try(enum access access, bool user, uint64_t va)
{
	/* Not through the table: its addresses are of the image, wherever that runs. */
	uint64_t (*function)(uint64_t) = accesses[access];
	struct call call = {.function = function, .argument = va, .user = user};
	uint64_t at = access == ACCESS_FETCH ? va : (uint64_t)function + (user ? BARE_USER : 0);
	struct bare_trap trap;

	bare_try(&trap, do_call, &call);
	if (!trap.happened) {
		return NO_FAULT;
	}
	check_eq(trap.vector, VECTOR_PF);
	check_eq(trap.cr2, va);
	check_eq(trap.rip, at);
	check_eq(trap.cs, user ? SEL_USER_CODE64 : SEL_CODE64);
	return trap.error;
}

uint64_t snippet_in_user(struct bare_trap *trap, uint64_t (*function)(uint64_t), uint64_t argument)
{
	struct call call = {.function = function, .argument = argument, .user = true};

	bare_try(trap, do_call, &call);
	return call.result;
}

bool bare_is_tcg(void)
{
	return cpuid(1, 0).eax == TCG_SIGNATURE && (cpuid(7, 0).ebx & LEAF7_SMAP) != 0;
}

void bare_excuse(const char *why)
{
	if (bare_is_tcg()) {
		bare_skip(why);
	}
}

bool bare_is_amd(void)
{
	uint32_t vendor = cpuid(0, 0).ebx;

	return vendor == VENDOR_AMD || vendor == VENDOR_HYGON;
}

uint32_t bare_physical_bits(void)
{
	return cpuid(0x80000000, 0).eax >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
}
