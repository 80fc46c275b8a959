#include "tests/soft/program.h"

#include <string.h>

#include "lib/base/bytes.h"
#include "lib/insn/decode.h"
#include "tests/soft/draw.h"

/* ---- from a program to code ---- */

static unsigned bytes_of(const struct group *g)
{
	unsigned n = 0;

	for (unsigned i = 0; i < g->nparts && !g->off; i++) {
		n += g->part[i].len;
	}
	return n;
}

static uint64_t address_of(const struct program *p, uint64_t group)
{
	uint64_t at = p->origin;

	for (unsigned i = 0; i < group && i < p->ngroups; i++) {
		at += bytes_of(&p->group[i]);
	}
	return at;
}

static void write_part(const struct program *p, const struct part *part, uint8_t *ram, uint64_t at)
{
	uint64_t value = part->target, end = at + part->len;

	memcpy(ram + at, part->bytes, part->len);
	if (part->fix == FIX_NONE) {
		return;
	}
	if (part->fix != FIX_RIP) {
		value = address_of(p, part->target);
	}
	value -= part->fix == FIX_ADDRESS ? 0 : end;
	memcpy(ram + at + part->fix_at, &value, part->fix_len);
}

/* lock dec dword [counter]; jnz origin; int ARENA_END */
static uint64_t write_end(const struct program *p, uint8_t *ram, uint64_t at)
{
	static const uint8_t wide[] = {0xf0, 0xff, 0x0c, 0x25}, narrow[] = {0xf0, 0xff, 0x0d};
	bool compat = p->mode == ARENA_COMPAT;
	size_t n = compat ? sizeof(narrow) : sizeof(wide);

	memcpy(ram + at, compat ? narrow : wide, n);
	at += n;
	store_le32(ram + at, (uint32_t)ARENA_COUNTER);
	at += 4;
	ram[at++] = 0x0f;
	ram[at++] = 0x85;
	store_le32(ram + at, (uint32_t)(p->origin - (at + 4)));
	at += 4;
	ram[at++] = 0xcd;
	ram[at++] = ARENA_END;
	return at;
}

void program_write(const struct program *p, struct arena_start *start)
{
	uint64_t at = p->origin;

	memset(start->ram + ARENA_CODE, 0xcc, ARENA_CODE_BYTES);
	for (unsigned i = 0; i < p->ngroups; i++) {
		const struct group *g = &p->group[i];

		for (unsigned k = 0; k < g->nparts && !g->off; k++) {
			write_part(p, &g->part[k], start->ram, at);
			at += g->part[k].len;
		}
	}
	write_end(p, start->ram, at);
	store_le32(start->ram + ARENA_COUNTER, p->rounds);
	start->regs.rip = p->origin;
}

void program_print(FILE *out, const struct program *p, const struct arena_start *start)
{
	unsigned mode = p->mode == ARENA_COMPAT ? INSN_32 : INSN_64;
	uint64_t end = address_of(p, p->ngroups), at = p->origin;

	while (at < end) {
		const uint8_t *bytes = start->ram + at;
		struct insn insn;
		bool known = insn_decode(&insn, mode, bytes, INSN_MAX) == INSN_OK;

		fprintf(out, "  %#llx ", (unsigned long long)at);
		for (unsigned i = 0; i < (known ? insn.len : 1U); i++) {
			fprintf(out, " %02x", bytes[i]);
		}
		fprintf(out, "  %s\n", known ? insn_mnemonic_name(insn.mnemonic) : "?");
		at += known ? insn.len : 1U;
	}
}

/* ---- a program ---- */

static void draw_registers(struct arena_start *start, struct random *r)
{
	uint64_t *gpr = (uint64_t *)&start->regs; /* in an order of its own, which is as good */

	memset(&start->regs, 0, sizeof(start->regs));
	for (unsigned i = 0; i < 16; i++) {
		gpr[i] = random_below(r, 3) == 0 ? draw_address(r) : draw_value(r);
		if (start->mode == ARENA_COMPAT) {
			gpr[i] = (uint32_t)gpr[i];
		}
	}
	start->regs.rsp = ARENA_DATA + 4096 + 8 * (uint64_t)random_below(r, 400);
	start->regs.rflags = BIT(1) | (random_next(r) & 0x8d5);
	start->regs.rflags |= random_below(r, 8) == 0 ? BIT(10) : 0;
	start->regs.rflags |= random_below(r, 2) == 0 ? BIT(9) : 0;
	start->regs.rflags |= random_below(r, 16) == 0 ? BIT(18) : 0;
}

static void draw_memory(struct arena_start *start, struct random *r)
{
	uint8_t *ram = start->ram;

	arena_template(ram);
	for (uint64_t at = ARENA_DATA; at < ARENA_PAGES * UINT64_C(4096); at += 8) {
		if ((at & 0x400) == 0) {
			store_le64(ram + at,
				   random_below(r, 4) == 0 ? draw_number(r) : random_next(r));
		}
	}
	for (unsigned i = 0; i < 64; i++) { /* indices for gathers */
		store_le32(ram + DRAW_INDICES + (size_t)4 * i, random_below(r, 64));
		store_le64(ram + DRAW_INDICES_WIDE + (size_t)8 * i, random_below(r, 64));
	}
}

void program_draw(struct program *p, struct arena_start *start, struct random *r, bool amd,
		  unsigned *mnemonics)
{
	struct draw d = {.r = r, .amd = amd, .mnemonics = mnemonics};

	memset(p, 0, sizeof(*p));
	p->mode = (enum arena_mode)random_below(r, ARENA_MODES);
	p->ngroups = 1 + random_below(r, random_below(r, 3) == 0 ? PROGRAM_GROUPS : 12);
	p->rounds = random_below(r, 10) == 0 ? 1 + random_below(r, 150) : 1 + random_below(r, 4);
	/* Some of them go over the end of the page. */
	p->origin = ARENA_CODE +
		    (random_below(r, 3) == 0 ? 3900 + random_below(r, 196) : random_below(r, 2000));
	start->mode = p->mode;
	d.mode = p->mode;
	for (d.at = 0; d.at < p->ngroups; d.at++) {
		draw_group(&d, &p->group[d.at], p->ngroups);
	}
	draw_registers(start, r);
	draw_vectors(start->xsave, r);
	draw_memory(start, r);
	program_write(p, start);
}
