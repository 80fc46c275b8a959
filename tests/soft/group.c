#include <string.h>

#include "lib/base/bytes.h"
#include "lib/insn/decode.h"
#include "tests/soft/draw.h"

#define RAX 0
#define RCX 1
#define RDX 2
#define RSP 4
#define RBP 5

#define FLAG_CF BIT(0)
#define FLAG_PF BIT(2)
#define FLAG_ZF BIT(6)
#define FLAG_SF BIT(7)
#define FLAG_OF BIT(11)

static bool wide(const struct draw *d)
{
	return d->mode != ARENA_COMPAT;
}

static struct part *add(struct group *g)
{
	return g->nparts < GROUP_PARTS ? &g->part[g->nparts++] : NULL;
}

/* mov @reg, @value, which changes no flags. Return: the part, or NULL without room. */
static struct part *set(struct draw *d, struct group *g, unsigned reg, uint64_t value)
{
	struct part *part = add(g);

	if (part == NULL) {
		return NULL;
	}
	if (wide(d)) {
		part->bytes[part->len++] = (uint8_t)(0x48 | reg >> 3);
	}
	part->bytes[part->len++] = (uint8_t)(0xb8 | (reg & 7));
	part->fix_at = part->len;
	part->fix_len = wide(d) ? 8 : 4;
	memcpy(part->bytes + part->len, &value, part->fix_len);
	part->len += part->fix_len;
	return part;
}

/* ---- aim ---- */

static uint64_t segment_base(const struct insn_mem *m)
{
	return m->seg == INSN_FS ? ARENA_FS : m->seg == INSN_GS ? ARENA_GS : 0;
}

/* vmovdqu ymmN, [indices]: a gather's */
static void load_indices(struct draw *d, struct group *g, unsigned reg)
{
	uint32_t from = (uint32_t)(random_below(d->r, 2) ? DRAW_INDICES : DRAW_INDICES_WIDE);
	struct part *part = add(g);

	if (part == NULL) {
		return;
	}
	part->bytes[0] = 0xc4;
	part->bytes[1] = (uint8_t)(0x61 | (reg < 8) << 7);
	part->bytes[2] = 0x7e;
	part->bytes[3] = 0x6f;
	part->bytes[4] = (uint8_t)((reg & 7) << 3 | (wide(d) ? 4 : 5));
	part->bytes[5] = 0x25; /* SIB: no base, no index */
	part->len = wide(d) ? 6 : 5;
	store_le32(part->bytes + part->len, from);
	part->len += 4;
}

/* By registers, or by the displacement of @main, such that the operand lies at @at, about. */
static void aim(struct draw *d, struct group *g, const struct insn *insn, const struct insn_mem *m,
		struct part *main)
{
	uint64_t at = draw_address(d->r) - segment_base(m);
	uint64_t index = random_below(d->r, 2) ? random_below(d->r, 64) : draw_value(d->r);

	if (m->kind == INSN_MEM_VSIB) {
		load_indices(d, g, m->index);
	} else if (m->kind == INSN_MEM_XLAT) {
		at -= 64;
	} else if (m->index != INSN_NO_REG && m->index != m->base) {
		set(d, g, m->index, index);
		at -= index * m->scale;
	}
	if (m->base == INSN_RIP) {
		main->fix = FIX_RIP;
		main->fix_at = insn->disp_at;
		main->fix_len = 4;
		main->target = at;
	} else if (m->base == INSN_NO_REG) {
		memcpy(main->bytes + insn->disp_at, &at, insn->disp_len);
	} else {
		at -= (uint64_t)m->disp;
		at /= m->index == m->base ? 1U + m->scale : 1U;
		set(d, g, m->base,
		    at | (insn->adr_bytes == 4 && wide(d) && random_below(d->r, 2)
				  ? random_next(d->r) << 32
				  : 0));
	}
}

/* What would otherwise fault nearly always, or take long. */
static void aim_others(struct draw *d, struct group *g, const struct insn *insn)
{
	struct random *r = d->r;
	const struct insn_operand *second = &insn->operand[1];

	switch (insn->mnemonic) {
	case INSN_DIV:
	case INSN_IDIV:
		if (random_below(r, 4) != 0) {
			set(d, g, RDX, random_below(r, 3) == 0 ? UINT64_MAX : random_below(r, 3));
		}
		break;
	case INSN_CMPXCHG:
	case INSN_CMPXCHG8B:
	case INSN_CMPXCHG16B:
		if (random_below(r, 2) == 0) {
			set(d, g, RDX, 0);
			set(d, g, 0, 0);
		}
		break;
	case INSN_LEAVE:
	case INSN_ENTER:
		set(d, g, RBP, draw_address(r));
		break;
	default:
		break;
	}
	if ((insn->attributes & INSN_ATTR_BITSTR) != 0 && second->kind == INSN_OP_REG &&
	    insn->nmem != 0 && second->reg != insn->mem[0].base &&
	    second->reg != insn->mem[0].index) {
		set(d, g, second->reg, (uint64_t)random_below(r, 8192) - 4096);
	}
	if ((insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0 &&
	    insn->klass == INSN_CLASS_STRING && random_below(r, 20) != 0) {
		set(d, g, RCX, random_below(r, random_below(r, 5) == 0 ? 5000 : 40));
	}
	if ((insn->attributes & (INSN_ATTR_PUSH | INSN_ATTR_POP)) != 0 && random_below(r, 3) != 0) {
		set(d, g, RSP, draw_address(r));
	}
}

/* ---- flags ---- */

/* What condition @cc reads. Spec: Intel SDM vol. 1, appendix B */
static uint32_t read_by(unsigned cc)
{
	static const uint32_t flags[] = {
		FLAG_OF, FLAG_CF, FLAG_ZF,	     FLAG_CF | FLAG_ZF,
		FLAG_SF, FLAG_PF, FLAG_SF | FLAG_OF, FLAG_ZF | FLAG_SF | FLAG_OF,
	};

	return flags[cc >> 1];
}

/* Lets one see a flag that is defined, then defines them all. */
static void settle(struct draw *d, struct group *g, const struct insn *insn)
{
	unsigned cc = random_below(d->r, 16), reg = random_below(d->r, 3);
	struct part *part;

	if (insn->flags_undefined == 0) {
		return;
	}
	if ((read_by(cc) & insn->flags_undefined) == 0 && g->nparts + 1 < GROUP_PARTS) {
		part = add(g); /* setcc al, cl, dl */
		part->bytes[0] = 0x0f;
		part->bytes[1] = (uint8_t)(0x90 | cc);
		part->bytes[2] = (uint8_t)(0xc0 | reg);
		part->len = 3;
	}
	part = add(g); /* cmp ebx, imm8 */
	part->bytes[0] = 0x83;
	part->bytes[1] = 0xfb;
	part->bytes[2] = (uint8_t)random_next(d->r);
	part->len = 3;
}

/* ---- branches ---- */

static struct part *branch(struct group *g, unsigned target, unsigned opcode, bool two_bytes)
{
	struct part *part = add(g);

	if (two_bytes) {
		part->bytes[part->len++] = 0x0f;
	}
	part->bytes[part->len++] = (uint8_t)opcode;
	part->fix = FIX_BRANCH;
	part->fix_at = part->len;
	part->fix_len = 4;
	part->target = target;
	part->len += 4;
	return part;
}

/* Over one group: it is shorter than 127 bytes. */
static void short_branch(struct draw *d, struct group *g)
{
	unsigned opcode = random_below(d->r, 4) == 0 ? 0xe0 + random_below(d->r, 4)
						     : 0x70 + random_below(d->r, 16);
	struct part *part = branch(g, d->at + 2, opcode, false);

	if (opcode >= 0xe0 && random_below(d->r, 3) == 0) { /* LOOP, JrCXZ with other registers */
		memmove(part->bytes + 1, part->bytes, 2);
		part->bytes[0] = 0x67;
		part->fix_at = 2;
		part->len++;
	}
	part->fix_len = 1;
	part->len -= 3;
}

/* Around where addresses of 4-level paging end, and anywhere else. */
static uint64_t no_address(struct draw *d)
{
	static const uint64_t edges[] = {UINT64_C(0x800000000000), UINT64_C(0xffff800000000000)};

	return random_below(d->r, 3) == 0
		       ? random_next(d->r)
		       : edges[random_below(d->r, 2)] + random_below(d->r, 4) - 2;
}

/* jmp, call, push and ret: by register @reg, which knows where to. */
static void indirect_branch(struct draw *d, struct group *g, unsigned target)
{
	static const uint8_t modrm[] = {0xe0, 0xd0, 0x20, 0x10};
	unsigned reg = random_below(d->r, 2) ? 3 : 5, kind = random_below(d->r, 3);
	struct part *part;

	if (kind != 0) {
		set(d, g, RSP, draw_address(d->r) & ~UINT64_C(7));
	}
	if (wide(d) && random_below(d->r, 16) == 0) {
		set(d, g, reg, no_address(d));
	} else {
		part = set(d, g, reg, 0);
		part->fix = FIX_ADDRESS;
		part->target = target;
	}
	part = add(g);
	if (kind == 2) {
		part->bytes[0] = (uint8_t)(0x50 | reg);
		part->len = 1;
		part = add(g);
		part->bytes[0] = random_below(d->r, 4) == 0 ? 0xc2 : 0xc3;
		part->bytes[1] = (uint8_t)random_below(d->r, 64); /* RET imm16 */
		part->len = part->bytes[0] == 0xc2 ? 3 : 1;
		return;
	}
	part->bytes[0] = 0xff;
	part->bytes[1] = (uint8_t)(modrm[kind] | reg);
	part->len = 2;
}

static void draw_branch(struct draw *d, struct group *g, unsigned ngroups)
{
	unsigned target = d->at + 1 + random_below(d->r, ngroups - d->at);

	switch (random_below(d->r, 6)) {
	case 0:
		branch(g, target, 0xe9, false);
		break;
	case 1:
		set(d, g, RSP, draw_address(d->r));
		branch(g, target, 0xe8, false);
		break;
	case 2:
	case 3:
		indirect_branch(d, g, target);
		break;
	case 4:
		branch(g, target, 0x80 + random_below(d->r, 16), true);
		break;
	default:
		short_branch(d, g);
		break;
	}
}

/* ---- loops ---- */

/* A GPR, but for RSP and the two. */
static unsigned draw_register(struct draw *d, unsigned not1, unsigned not2)
{
	unsigned reg;

	do {
		reg = random_below(d->r, wide(d) ? 16 : 8);
	} while (reg == RSP || reg == not1 || reg == not2);
	return reg;
}

/* An instruction on @reg, all of it, and @rm: a register, or memory at [@rm + @index * 4 + disp8].
 */
static struct part *plain(struct draw *d, struct group *g, unsigned opcode, unsigned reg,
			  unsigned rm, bool memory, unsigned index)
{
	struct part *part = add(g);
	bool indexed = memory && index != RSP;
	unsigned rex = 0x48 | (reg & 8) >> 1 | (indexed ? index & 8 : 0) >> 2 | rm >> 3;

	if (wide(d)) {
		part->bytes[part->len++] = (uint8_t)rex;
	}
	if (opcode > 0xff) {
		part->bytes[part->len++] = (uint8_t)(opcode >> 8);
	}
	part->bytes[part->len++] = (uint8_t)opcode;
	part->bytes[part->len++] =
		(uint8_t)((memory ? 0x44 : 0xc0) | (reg & 7) << 3 | (memory ? RSP : rm & 7));
	if (memory) {
		part->bytes[part->len++] = (uint8_t)(0x80 | (index & 7) << 3 | (rm & 7));
		part->bytes[part->len++] = (uint8_t)random_below(d->r, 256);
	}
	return part;
}

/* add, sub or lea: @reg moves a little. */
static void step(struct draw *d, struct group *g, unsigned reg)
{
	unsigned by = 1U << random_below(d->r, 6), kind = random_below(d->r, 4);
	struct part *part;

	if (kind == 3) {
		part = plain(d, g, 0x8d, reg, reg, true, RSP);
	} else {
		part = plain(d, g, 0x83, kind == 2 ? 5 : 0, reg, false, RSP);
		part->len++;
	}
	part->bytes[part->len - 1] = (uint8_t)(kind == 1 ? -by : by);
}

/* A register, and perhaps a second one, go through memory; a third counts. */
static void draw_loop(struct draw *d, struct group *g)
{
	static const uint16_t opcodes[] = {0x8b, 0x89,	 0x03,	 0x01,	 0x13, 0x11, 0x3b,  0x31,
					   0x33, 0x0f10, 0x0f11, 0x0f58, 0x8a, 0x88, 0x0fb6};
	unsigned base = draw_register(d, RSP, RSP), counter = draw_register(d, base, RSP);
	unsigned index = random_below(d->r, 3) == 0 ? draw_register(d, base, counter) : RSP;
	uint64_t offset = index != RSP ? (uint64_t)random_below(d->r, 100) : 0;
	unsigned begin = 0, bytes = 0;
	struct part *part;

	set(d, g, base, draw_address(d->r) - 4 * offset);
	set(d, g, counter, 1 + random_below(d->r, random_below(d->r, 4) == 0 ? 200 : 12));
	if (index != RSP) {
		set(d, g, index, offset);
	}
	begin = g->nparts;
	plain(d, g, opcodes[random_below(d->r, ARRAY_SIZE(opcodes))],
	      draw_register(d, base, counter), base, true, index);
	step(d, g, index != RSP && random_below(d->r, 2) ? index : base);
	if (random_below(d->r, 2)) {
		plain(d, g, opcodes[random_below(d->r, ARRAY_SIZE(opcodes))],
		      draw_register(d, base, counter), base, true, index);
	}
	plain(d, g, 0xff, 1, counter, false, RSP); /* dec */
	for (unsigned i = begin; i < g->nparts; i++) {
		bytes += g->part[i].len;
	}
	part = add(g);
	part->bytes[0] = 0x75; /* jnz; or jz and jmp */
	part->bytes[1] = (uint8_t) - (bytes + 2);
	part->len = 2;
	if (random_below(d->r, 4) == 0) {
		part->bytes[0] = 0x74;
		part->bytes[1] = 2;
		part->bytes[2] = 0xeb;
		part->bytes[3] = (uint8_t) - (bytes + 4);
		part->len = 4;
	}
}

/* WRPKRU: most of the time all rights, so that much can be executed. */
static void draw_keys(struct draw *d, struct group *g)
{
	unsigned key = 1 + random_below(d->r, ARENA_KEYS - 1);
	uint32_t rights = (uint32_t)random_below(d->r, 4) << 2 * key;
	struct part *part;

	(void)set(d, g, RCX, 0);
	(void)set(d, g, RDX, 0);
	(void)set(d, g, RAX, random_below(d->r, 3) == 0 ? rights : 0);
	part = add(g);
	if (part != NULL) {
		memcpy(part->bytes, "\x0f\x01\xef", 3);
		part->len = 3;
	}
}

void draw_group(struct draw *d, struct group *g, unsigned ngroups)
{
	unsigned mode = (d->mode == ARENA_COMPAT ? INSN_32 : INSN_64) | (d->amd ? INSN_AMD : 0);
	struct part main = {0};
	struct insn insn;

	memset(g, 0, sizeof(*g));
	if (random_below(d->r, 7) == 0) {
		draw_branch(d, g, ngroups);
		return;
	}
	if (random_below(d->r, 12) == 0) {
		draw_loop(d, g);
		return;
	}
	if (random_below(d->r, 40) == 0 && arena_has_keys()) {
		draw_keys(d, g);
		return;
	}
	draw_instruction(d, &main);
	if (insn_decode(&insn, mode, main.bytes, main.len) != INSN_OK) {
		return;
	}
	if (random_below(d->r, 12) != 0) {
		for (unsigned i = 0; i < insn.nmem; i++) {
			aim(d, g, &insn, &insn.mem[i], &main);
		}
		aim_others(d, g, &insn);
	}
	while (g->nparts + 3 > GROUP_PARTS) {
		g->nparts--;
	}
	*add(g) = main;
	settle(d, g, &insn);
}
