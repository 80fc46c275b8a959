/*
 * Each opcode of all maps, with some prefixes and operands, in one of the modes. INT3 is all
 * around it, and each vector leads to an OUT that says that the case has ended.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sweep/sweep.h"

#define EXITS	4   /* of a case, at most */
#define RESTORE 256 /* cases, after which the tables are put in order anyway */
#define CODE_AT 0x100

PAYLOAD(16, op16, "jmp op16\n handler16: out %al, $0xf4\n hlt\n");
PAYLOAD(32, op32, "jmp op32\n handler32: out %al, $0xf4\n hlt\n");
PAYLOAD(64, op64, "jmp op64\n handler64: out %al, $0xf4\n hlt\n");
extern const char handler16[], handler32[], handler64[];

struct opcodes {
	struct sweep s;
	struct vm vm;
	int bits;
	bool emulated; /* this machine is QEMU's */
	uint64_t since;
	uint8_t *image; /* s's, which would put it back each time */
	uint8_t *code;
};

/*
 * Not what QEMU 7.2 itself ends at. MOV to debug registers, and to CR8 (REX.R or LOCK): an
 * assertion about its own lock, or a watchpoint of the guest's that it takes for the host's. BT,
 * BTS, BTR and BTC with LOCK and a register: "tcg fatal error". What there is with VEX only,
 * without it: a jump to address 0.
 */
static bool vex_only(uint8_t map, uint8_t op)
{
	if (map == 0x3a) {
		return op < 0x08 || op == 0x18 || op == 0x19 || op == 0x1d || op == 0x38 ||
		       op == 0x39 || op >= 0x46;
	}
	return (op >= 0x0c && op < 0x10) || op == 0x13 || op == 0x16 || (op >= 0x18 && op < 0x1b) ||
	       (op >= 0x2c && op < 0x30) || op == 0x36 || (op >= 0x42 && op < 0xc8) || op >= 0xf2;
}

static bool left_out(const struct opcodes *o, const uint8_t *insn, size_t len)
{
	for (size_t i = 0; o->emulated && i + 2 < len; i++) {
		bool lock = i > 0 && insn[i - 1] == 0xf0;
		uint8_t op = insn[i + 1];

		if (insn[i] != 0x0f) {
			continue;
		}
		if ((op == 0x38 || op == 0x3a) && vex_only(op, insn[i + 2])) {
			return true;
		}
		if (op == 0x21 || op == 0x23 || (op == 0x22 && lock)) {
			return true;
		}
		if (lock && ((op & 0xe7) == 0xa3 || op == 0xba) && insn[i + 2] >= 0xc0) {
			return true;
		}
	}
	return false;
}

static void one(struct opcodes *o, const uint8_t *insn, size_t len, bool hole)
{
	struct sweep *s = &o->s;

	if (left_out(o, insn, len)) {
		return;
	}
	if (o->since++ % RESTORE == 0) {
		memcpy(s->vm->ram, o->image, SWEEP_IMAGE);
	}
	memset(o->code, 0xcc, 32);
	memcpy(o->code, insn, len);
	if (o->bits == 16) {
		s->sregs.ds.base = hole ? VM_HOLE : SWEEP_DATA;
		s->regs.rbx = 0x100;
	} else {
		s->regs.rbx = (hole ? VM_HOLE : SWEEP_DATA) + 0x100;
	}
	sweep_reset(s);
	enum sweep_end how = sweep_run(s, EXITS);

	if (how == SWEEP_FETCHED ||
	    (how == SWEEP_ENDED && s->vcpu->run->exit_reason != KVM_EXIT_IO)) {
		o->since = 0;
	}
	s->cases++;
}

static const uint8_t prefixes[] = {0, 0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x67};

/* @map: of the escape's bytes, or 0. Register, RAM, and nobody's memory as the operand. */
static void map(struct opcodes *o, const uint8_t *escape, size_t escape_len, unsigned prefix)
{
	unsigned at_bx = o->bits == 16 ? 7 : 3;

	for (unsigned opcode = 0; opcode < 256; opcode++) {
		bool special = escape_len == 1 && (opcode == 0x00 || opcode == 0x01 ||
						   opcode == 0xae || opcode == 0xc7);
		bool all = prefix == 0 &&
			   (special || (escape_len == 0 && opcode >= 0xd8 && opcode <= 0xdf));
		unsigned forms = all ? 256 : 24;

		for (unsigned form = 0; form < forms; form++) {
			uint8_t insn[15];
			size_t n = 0;
			unsigned reg = form % 8, kind = form / 8;
			bool hole = !all && kind == 2;

			/* Prefixes that seldom matter come with fewer forms. */
			if (!all && prefix > 3 && (reg & 3) != 1) {
				continue;
			}
			if (prefix != 0) {
				insn[n++] = prefixes[prefix];
			}
			memcpy(insn + n, escape, escape_len);
			n += escape_len;
			insn[n++] = (uint8_t)opcode;
			insn[n++] = (uint8_t)(all ? form : (kind == 0 ? 0xc1 : at_bx) | reg << 3);
			memset(insn + n, 0x01, 4); /* of an immediate or displacement, if any */
			one(o, insn, n + 4, hole);
		}
	}
}

static void vex(struct opcodes *o)
{
	for (unsigned i = 0; i < 3 * 256 * 4 * 4; i++) {
		uint8_t pp = i & 3, wide = i >> 2 & 1, memory = i >> 3 & 1;
		uint8_t insn[] = {0xc4,
				  (uint8_t)(0xe0 | (1 + i / 4096)),
				  (uint8_t)(0x70 | wide << 7 | wide << 2 | pp),
				  (uint8_t)(i >> 4),
				  memory ? 0x03 : 0xc1,
				  0x01};

		one(o, insn, sizeof(insn), false);
	}
	/* EVEX, and XOP with its maps 8 to 10 */
	for (unsigned i = 0; i < 3 * 256; i++) {
		uint8_t evex[] = {0x62, (uint8_t)(0xf1 + i / 256), 0x7d, 0x48, (uint8_t)i, 0xc1, 1};
		uint8_t xop[] = {0x8f, (uint8_t)(0xe8 + i / 256), 0x78, (uint8_t)i, 0xc1, 1};

		one(o, evex, sizeof(evex), false);
		one(o, xop, sizeof(xop), false);
	}
}

void sweep_opcodes(int bits)
{
	static const uint8_t escapes[] = {0x0f, 0x38, 0x0f, 0x3a};
	static struct opcodes o;
	char name[16];

	o = (struct opcodes){.bits = bits, .emulated = vm_svm_is_emulated()};
	if (bits == 16) {
		sweep_begin(&o.s, &o.vm, IRQCHIP_NONE, bits, op16, op16_end, handler16, 10);
	} else if (bits == 32) {
		sweep_begin(&o.s, &o.vm, IRQCHIP_FULL, bits, op32, op32_end, handler32, 10);
	} else {
		sweep_begin(&o.s, &o.vm, IRQCHIP_SPLIT, bits, op64, op64_end, handler64, 10);
	}
	o.s.by_port = true;
	/* The rest of the page: who jumps lands in it. */
	memset(o.s.image + VM_CODE + 16, 0xcc, 4096 - 16);
	o.code = o.vm.ram + VM_CODE + CODE_AT;
	o.s.regs.rip += CODE_AT;
	o.s.regs.rax = 1;
	o.s.regs.rcx = 3;
	o.s.regs.rdx = 0x80;
	o.s.regs.rsi = bits == 16 ? 0x800 : SWEEP_DATA;
	o.s.regs.rdi = bits == 16 ? 0x900 : SWEEP_DATA + 0x400;
	if (bits == 16) {
		o.s.sregs.ds.base = o.s.sregs.es.base = SWEEP_DATA;
		o.s.sregs.ds.selector = o.s.sregs.es.selector = SWEEP_DATA >> 4;
	}
	o.image = o.s.image;
	o.s.image = NULL;
	sweep_watch(&o.s);
	for (unsigned prefix = 0; prefix < sizeof(prefixes); prefix++) {
		map(&o, escapes, 0, prefix);
		map(&o, escapes, 1, prefix);
		map(&o, escapes, 2, prefix);
		map(&o, escapes + 2, 2, prefix);
	}
	vex(&o);
	o.s.image = o.image;
	snprintf(name, sizeof(name), "opcodes-%d", bits);
	sweep_done(&o.s, name, 60000);
}
