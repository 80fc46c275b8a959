#include "lib/insn/test_zydis.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/insn/test_zydis_both.h"

const char *const zydis_aspect_names[ZYDIS_NASPECTS] = {
	"validity",  "length",	"mnemonic", "immediates", "memory",
	"registers", "general", "vectors",  "flags",	  "privilege",
};

static ZydisDecoder decoders[3][2];

void zydis_init(void)
{
	static const ZydisMachineMode modes[3] = {ZYDIS_MACHINE_MODE_LEGACY_16,
						  ZYDIS_MACHINE_MODE_LEGACY_32,
						  ZYDIS_MACHINE_MODE_LONG_64};
	static const ZydisStackWidth widths[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32,
						  ZYDIS_STACK_WIDTH_64};

	for (unsigned i = 0; i < 6; i++) {
		ZydisDecoder *d = &decoders[i / 2][i % 2];

		check(ZYAN_SUCCESS(ZydisDecoderInit(d, modes[i / 2], widths[i / 2])));
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_TRUE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_AMD_BRANCHES, i % 2);
	}
}

/* Return: class, number and bytes of a register, as our decoder names them; false: not such a one
 */
static bool translate(ZydisRegister reg, struct insn_operand *o)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(reg);
	int id = ZydisRegisterGetId(reg);

	*o = (struct insn_operand){.kind = INSN_OP_REG, .reg = (uint8_t)id};
	o->bytes = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg) / 8;
	switch (c) {
	case ZYDIS_REGCLASS_GPR8:
		o->klass = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH ? INSN_GPR_HIGH
										: INSN_GPR;
		o->reg = reg <= ZYDIS_REGISTER_BL   ? reg - ZYDIS_REGISTER_AL
			 : reg <= ZYDIS_REGISTER_BH ? reg - ZYDIS_REGISTER_AH
						    : reg - ZYDIS_REGISTER_SPL + 4;
		return true;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		o->klass = INSN_GPR;
		return true;
	case ZYDIS_REGCLASS_X87:
		o->klass = INSN_ST;
		return true;
	case ZYDIS_REGCLASS_MMX:
		o->klass = INSN_MM;
		return true;
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM:
		o->klass = INSN_VEC;
		return true;
	case ZYDIS_REGCLASS_SEGMENT:
		o->klass = INSN_SEG;
		o->bytes = 2;
		return true;
	case ZYDIS_REGCLASS_CONTROL:
	case ZYDIS_REGCLASS_DEBUG:
		o->klass = c == ZYDIS_REGCLASS_CONTROL ? INSN_CR : INSN_DR;
		return true;
	case ZYDIS_REGCLASS_MASK:
		o->klass = INSN_MASK;
		return true;
	default:
		return false;
	}
}

static uint32_t *bits_of(struct zydis_used *u, unsigned klass, unsigned way)
{
	switch (klass) {
	case INSN_GPR:
	case INSN_GPR_HIGH:
		return &u->gpr[way];
	case INSN_VEC:
		return &u->vec[way];
	case INSN_MM:
		return &u->mm[way];
	case INSN_MASK:
		return &u->mask[way];
	case INSN_SEG:
		return &u->seg[way];
	case INSN_CR:
	case INSN_DR:
		return &u->crdr[way];
	default:
		return NULL;
	}
}

static void use(struct zydis_used *u, const struct insn_operand *o, bool read, bool write)
{
	uint32_t bit = UINT32_C(1) << (o->reg & 31);

	if (bits_of(u, o->klass, READ) == NULL) {
		return;
	}
	*bits_of(u, o->klass, READ) |= read ? bit : 0;
	*bits_of(u, o->klass, WRITTEN) |= write ? bit : 0;
}

static void use_zydis_reg(struct zydis_used *u, ZydisRegister reg, unsigned actions)
{
	struct insn_operand o;
	bool read = (actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
	bool write = (actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;

	if (!translate(reg, &o)) {
		return;
	}
	/* What is written in part, or perhaps, is kept otherwise. */
	if (o.klass <= INSN_GPR_HIGH && write &&
	    (o.bytes < 4 || (actions & ZYDIS_OPERAND_ACTION_CONDWRITE) != 0)) {
		read = true;
	}
	use(u, &o, read, write);
}

void zydis_used(const struct zydis_both *b, struct zydis_used *u)
{
	memset(u, 0, sizeof(*u));
	for (unsigned i = 0; i < b->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &b->op[i];

		/* k0 in the place of a mask means none. */
		if (op->encoding == ZYDIS_OPERAND_ENCODING_MASK &&
		    op->reg.value == ZYDIS_REGISTER_K0) {
			continue;
		}
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			use_zydis_reg(u, op->reg.value, op->actions);
		} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			use_zydis_reg(u, op->mem.base, ZYDIS_OPERAND_ACTION_READ);
			if (op->mem.type != ZYDIS_MEMOP_TYPE_VSIB) {
				use_zydis_reg(u, op->mem.index, ZYDIS_OPERAND_ACTION_READ);
			}
		}
	}
}

void zydis_ours(const struct zydis_both *b, struct zydis_used *u)
{
	const struct insn *insn = &b->insn;

	memset(u, 0, sizeof(*u));
	for (unsigned i = 0; i < insn->noperands; i++) {
		const struct insn_operand *o = &insn->operand[i];

		if (o->kind == INSN_OP_REG && o->klass > INSN_GPR_HIGH) {
			use(u, o, (o->access & INSN_READ) != 0, (o->access & INSN_WRITE) != 0);
		}
	}
	u->gpr[READ] = insn->gpr_read;
	u->gpr[WRITTEN] = insn->gpr_write;
	if (insn->encoding == INSN_EVEX && insn->evex_aaa != 0) {
		u->mask[READ] |= 1U << insn->evex_aaa;
		if (insn->nmem > 0 && insn->mem[0].kind == INSN_MEM_VSIB) {
			u->mask[WRITTEN] |= 1U << insn->evex_aaa;
		}
	}
}

static bool differs(struct zydis_both *b, unsigned aspect, const char *format, ...)
{
	va_list ap;

	if (zydis_excused(b, aspect)) {
		return false;
	}
	b->report->aspect = aspect;
	va_start(ap, format);
	vsnprintf(b->report->what, sizeof(b->report->what), format, ap);
	va_end(ap);
	return true;
}

static bool same_registers(struct zydis_both *b)
{
	struct zydis_used z, o;

	zydis_used(b, &z);
	zydis_ours(b, &o);
	if (memcmp(z.gpr, o.gpr, sizeof(z.gpr)) != 0 &&
	    differs(b, ZYDIS_GPRS, "read %x not %x, written %x not %x", o.gpr[0], z.gpr[0],
		    o.gpr[1], z.gpr[1])) {
		return false;
	}
	for (unsigned i = offsetof(struct zydis_used, vec) / 4; i < sizeof(z) / 4; i++) {
		const uint32_t *zu = (const uint32_t *)&z, *ou = (const uint32_t *)&o;

		if (zu[i] != ou[i] &&
		    differs(b, ZYDIS_VECTORS, "%s %s: %x not %x",
			    (const char *[]){"gpr", "vec", "mm", "mask", "seg", "crdr"}[i / 2],
			    i % 2 == READ ? "read" : "written", ou[i], zu[i])) {
			return false;
		}
	}
	return true;
}

/* Each register that Zydis shows is one of our operands. */
static bool same_explicit(struct zydis_both *b)
{
	for (unsigned i = 0; i < b->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &b->op[i];
		struct insn_operand o;
		bool found = false;

		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    op->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT ||
		    op->encoding == ZYDIS_OPERAND_ENCODING_MASK || !translate(op->reg.value, &o)) {
			continue;
		}
		for (unsigned n = 0; n < b->insn.noperands; n++) {
			const struct insn_operand *ours = &b->insn.operand[n];

			found |= ours->kind == INSN_OP_REG && ours->klass == o.klass &&
				 ours->reg == o.reg &&
				 (ours->bytes == o.bytes || o.klass > INSN_GPR_HIGH) &&
				 (ours->bytes == o.bytes || o.klass != INSN_VEC);
		}
		if (!found && differs(b, ZYDIS_REGISTERS, "no operand like %s",
				      ZydisRegisterGetString(op->reg.value))) {
			return false;
		}
	}
	return true;
}

static unsigned access_of(unsigned actions)
{
	return ((actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0 ? INSN_READ : 0) |
	       ((actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0 ? INSN_WRITE : 0);
}

static uint8_t address_reg(ZydisRegister reg)
{
	struct insn_operand o;

	if (reg == ZYDIS_REGISTER_NONE) {
		return INSN_NO_REG;
	}
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) {
		return INSN_RIP;
	}
	return translate(reg, &o) ? o.reg : 0x80;
}

static bool same_place(const struct insn_mem *m, const ZydisDecodedOperandMem *z, unsigned mode)
{
	struct insn_operand seg;
	int64_t disp = z->disp.has_displacement ? z->disp.value : 0;

	if (!translate(z->segment, &seg)) {
		seg.reg = INSN_NO_REG;
	}
	/* In 64-bit mode these all have the base 0, and LEA has no segment. */
	if (mode == INSN_64 && seg.reg < INSN_FS && seg.reg != INSN_SS) {
		seg.reg = INSN_DS;
	}
	return (z->type == ZYDIS_MEMOP_TYPE_AGEN || m->seg == seg.reg ||
		(mode == INSN_64 && m->seg < INSN_FS && seg.reg < INSN_FS)) &&
	       m->base == address_reg(z->base) &&
	       (m->index == address_reg(z->index) || m->kind == INSN_MEM_XLAT) &&
	       (m->index == INSN_NO_REG || m->kind == INSN_MEM_XLAT || m->scale == z->scale) &&
	       (m->disp == disp ||
		(m->kind == INSN_MEM_MOFFS &&
		 (m->disp == (int64_t)(uint32_t)disp || m->disp == (int64_t)(uint16_t)disp)));
}

static bool stack_operand(const struct zydis_both *b, const ZydisDecodedOperand *op)
{
	return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
	       (address_reg(op->mem.base) == 4 || b->insn.mnemonic == INSN_LEAVE) &&
	       (b->insn.attributes & (INSN_ATTR_PUSH | INSN_ATTR_POP)) != 0;
}

static bool same_memory(struct zydis_both *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &b->op[i];
		const struct insn_operand *ours = NULL;
		const struct insn_mem *m = NULL;

		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || stack_operand(b, op)) {
			continue;
		}
		n++;
		for (unsigned k = 0; k < b->insn.noperands; k++) {
			const struct insn_operand *o = &b->insn.operand[k];

			if (o->kind == INSN_OP_MEM &&
			    same_place(&b->insn.mem[o->reg], &op->mem, b->insn.mode)) {
				ours = o;
				m = &b->insn.mem[o->reg];
			}
		}
		if (ours == NULL) {
			if (differs(b, ZYDIS_MEMORY, "no operand [%s:%s+%s*%d%+lld]",
				    ZydisRegisterGetString(op->mem.segment),
				    ZydisRegisterGetString(op->mem.base),
				    ZydisRegisterGetString(op->mem.index), op->mem.scale,
				    (long long)op->mem.disp.value)) {
				return false;
			}
			continue;
		}
		if ((m->bytes != op->size / 8 && m->bytes != 0 &&
		     op->mem.type != ZYDIS_MEMOP_TYPE_AGEN) ||
		    (access_of(op->actions) != (ours->access & 3U) && m->bytes != 0)) {
			if (differs(b, ZYDIS_MEMORY, "%u bytes access %u, not %u access %u",
				    m->bytes, ours->access, op->size / 8, access_of(op->actions))) {
				return false;
			}
		}
	}
	return n == b->insn.nmem ||
	       !differs(b, ZYDIS_MEMORY, "%u operands, not %u", b->insn.nmem, n);
}

static bool same_immediates(struct zydis_both *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &b->op[i];
		uint64_t value =
			op->type == ZYDIS_OPERAND_TYPE_POINTER ? op->ptr.offset : op->imm.value.u;
		unsigned shift = op->size >= 64 || op->size == 0 ? 0 : 64 - op->size;

		if (op->type == ZYDIS_OPERAND_TYPE_POINTER) {
			if ((b->insn.imm[0] != value || b->insn.imm[1] != op->ptr.segment) &&
			    differs(b, ZYDIS_IMMEDIATES, "far pointer")) {
				return false;
			}
		} else if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
			   op->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
			if ((b->insn.imm[n] ^ value) << shift != 0 &&
			    differs(b, ZYDIS_IMMEDIATES, "%llx not %llx",
				    (unsigned long long)b->insn.imm[n],
				    (unsigned long long)value)) {
				return false;
			}
			n = 1;
		}
	}
	return true;
}

static bool same_flags(struct zydis_both *b)
{
	const ZydisAccessedFlags *f = b->z.cpu_flags;
	uint32_t read = 0, written = 0, undefined = 0;

	if (f != NULL) {
		const uint32_t iopl = 1U << 12;

		read = f->tested;
		undefined = f->undefined;
		written = f->modified | f->set_0 | f->set_1 | f->undefined;
		read |= read & iopl ? iopl << 1 : 0;
		written |= written & iopl ? iopl << 1 : 0;
	}
	return (b->insn.flags_read == read && b->insn.flags_written == written &&
		b->insn.flags_undefined == undefined) ||
	       !differs(b, ZYDIS_FLAGS, "read %x not %x, written %x not %x, undefined %x not %x",
			b->insn.flags_read, read, b->insn.flags_written, written,
			b->insn.flags_undefined, undefined);
}

/* Ours are the manual's; Zydis tells string instructions and others apart by their size. */
static bool same_name(const char *ours, const char *z)
{
	char name[40];
	size_t n = 0;

	for (; ours[n] != 0 && n < sizeof(name) - 1; n++) {
		name[n] = (char)tolower((unsigned char)ours[n]);
	}
	name[n] = 0;
	if (strcmp(name, z) == 0) {
		return true;
	}
	return strncmp(name, z, n) == 0 && strlen(z) == n + 1 && strchr("bwdq", z[n]) != NULL;
}

static bool compare_all(struct zydis_both *b)
{
	const char *ours = insn_mnemonic_name(b->insn.mnemonic);
	const char *theirs = ZydisMnemonicGetString(b->z.mnemonic);
	bool privileged = (b->insn.attributes & INSN_ATTR_CPL0) != 0;

	if (b->insn.len != b->z.length) {
		return !differs(b, ZYDIS_LENGTH, "%u not %u", b->insn.len, b->z.length);
	}
	if (!same_name(ours, theirs) && differs(b, ZYDIS_MNEMONIC, "%s not %s", ours, theirs)) {
		return false;
	}
	if (privileged != ((b->z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0) &&
	    differs(b, ZYDIS_PRIVILEGE, "%d", privileged)) {
		return false;
	}
	return same_immediates(b) && same_memory(b) && same_explicit(b) && same_registers(b) &&
	       same_flags(b);
}

bool zydis_compare(unsigned mode, const uint8_t *bytes, unsigned len, struct zydis_report *report)
{
	static _Thread_local struct zydis_both b; /* large */
	enum insn_result ours = insn_decode(&b.insn, mode, bytes, len);
	ZyanStatus theirs;

	b.mode = mode;
	b.report = report;
	theirs = ZydisDecoderDecodeFull(&decoders[mode & 3][(mode & INSN_AMD) != 0], bytes, len,
					&b.z, b.op);
	report->compared++;
	snprintf(report->text, sizeof(report->text), "%s",
		 ZYAN_SUCCESS(theirs) ? ZydisMnemonicGetString(b.z.mnemonic) : "invalid");
	check(ours != INSN_MORE);
	if (!ZYAN_SUCCESS(theirs)) {
		b.z.mnemonic = ZYDIS_MNEMONIC_INVALID;
		/* Of what is both too long and undefined, either may be said. */
		if (ours != INSN_OK) {
			return true;
		}
		return !differs(&b, ZYDIS_VALIDITY, "%s is valid, not refused by %x",
				insn_mnemonic_name(b.insn.mnemonic), theirs);
	}
	if (ours != INSN_OK) {
		return !differs(&b, ZYDIS_VALIDITY, "refused as %d", ours);
	}
	report->valid++;
	return compare_all(&b);
}
