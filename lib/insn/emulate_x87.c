/*
 * Of x87 and MMX, what drivers and firmware do to device memory, on the image that FXSAVE has of
 * the registers: for surroundings that have no ops->native.
 *
 * Spec: Intel SDM vol. 1, 8.1 "x87 FPU Environment", 9.5 "Compatibility with x87 FPU Architecture",
 * table 10-2 "Format of an FXSAVE Area"
 */
#include <string.h>

#include "lib/insn/exec.h"

/* In the image. */
#define AT_FCW 0
#define AT_FSW 2
#define AT_FTW 4 /* a bit for each register that is not empty */
#define AT_ST  32
#define PLACES 24 /* bytes before MXCSR: words, opcode and pointers */

#define FCW_INIT     UINT16_C(0x037f)
#define FCW_ALWAYS   UINT16_C(0x0040)
#define FCW_KNOWN    UINT16_C(0x1f3f)
#define FSW_ERRORS   UINT16_C(0x80ff) /* B, ES, SF and the exceptions: what FNCLEX clears */
#define FSW_TOP	     UINT16_C(0x3800)
#define FSW_ES	     UINT16_C(0x0080)
#define FSW_B	     UINT16_C(0x8000)
#define EXCEPTIONS   UINT16_C(0x3f)
#define EXPONENT_MMX UINT16_C(0xffff)

static uint16_t word_at(const uint8_t *image, unsigned at)
{
	uint16_t word;

	memcpy(&word, image + at, sizeof(word));
	return word;
}

static void set_word(uint8_t *image, unsigned at, uint16_t word)
{
	memcpy(image + at, &word, sizeof(word));
}

static enum insn_outcome get_image(struct insn_exec *x, uint8_t **image)
{
	*image = NULL;
	if (x->ops->x87_image == NULL) {
		return INSN_UNSUPPORTED;
	}
	if ((x->cpu->cr0 & (CR0_EM | CR0_TS)) != 0) {
		enum insn_vector vector = INSN_EXC_NM;

		if (x->insn->klass == INSN_CLASS_MMX && (x->cpu->cr0 & CR0_EM) != 0) {
			vector = INSN_EXC_UD;
		}
		return insn_raise(x->env, vector, 0);
	}
	return x->ops->x87_image(x->env, image);
}

/* ES follows the exceptions that are not masked, B follows ES. */
static void update_summary(uint8_t *image)
{
	uint16_t fsw = word_at(image, AT_FSW), fcw = word_at(image, AT_FCW);

	fsw &= (uint16_t) ~(FSW_ES | FSW_B);
	if ((fsw & ~fcw & EXCEPTIONS) != 0) {
		fsw |= FSW_ES | FSW_B;
	}
	set_word(image, AT_FSW, fsw);
}

static enum insn_outcome load_control(struct insn_exec *x, uint8_t *image)
{
	uint64_t value = 0;
	enum insn_outcome r;

	if ((word_at(image, AT_FSW) & FSW_ES) != 0) {
		return insn_raise(x->env, INSN_EXC_MF, 0);
	}
	r = insn_read(x, 0, &value);
	if (r == INSN_DONE) {
		set_word(image, AT_FCW, (uint16_t)((value & FCW_KNOWN) | FCW_ALWAYS));
		update_summary(image);
	}
	return r;
}

enum insn_outcome insn_do_x87_control(struct insn_exec *x)
{
	uint8_t *image;
	enum insn_outcome r = get_image(x, &image);

	if (r != INSN_DONE || image == NULL) {
		return r;
	}
	switch (x->insn->mnemonic) {
	case INSN_FNINIT:
		memset(image, 0, PLACES);
		set_word(image, AT_FCW, FCW_INIT);
		return INSN_DONE;
	case INSN_FNCLEX:
		set_word(image, AT_FSW, word_at(image, AT_FSW) & (uint16_t)~FSW_ERRORS);
		return INSN_DONE;
	case INSN_FLDCW:
		return load_control(x, image);
	case INSN_FNSTCW:
		return insn_write(x, 0, word_at(image, AT_FCW));
	default:
		return insn_write(x, 0, word_at(image, AT_FSW));
	}
}

/* TOP becomes 0, so that ST(i) is register i, which is MMi; and all are in use. */
static void make_mmx(uint8_t *image)
{
	unsigned top = (word_at(image, AT_FSW) & FSW_TOP) >> 11;
	uint8_t old[8 * 16];

	memcpy(old, image + AT_ST, sizeof(old));
	for (unsigned i = 0; i < 8 && top != 0; i++) {
		memcpy(image + AT_ST + 16 * (size_t)i, old + 16 * (size_t)((i - top) & 7), 16);
	}
	set_word(image, AT_FSW, word_at(image, AT_FSW) & (uint16_t)~FSW_TOP);
	image[AT_FTW] = 0xff;
}

/* MOVQ, MOVD and MOVNTQ between an MMX register and memory or a register. */
enum insn_outcome insn_do_mmx_move(struct insn_exec *x)
{
	const struct insn_operand *to = &x->insn->operand[0], *from = &x->insn->operand[1];
	uint64_t value = 0;
	uint8_t *image;
	enum insn_outcome r = get_image(x, &image);

	if (r != INSN_DONE || image == NULL) {
		return r;
	}
	if ((word_at(image, AT_FSW) & FSW_ES) != 0) {
		return insn_raise(x->env, INSN_EXC_MF, 0);
	}
	if (from->kind == INSN_OP_REG && from->klass == INSN_MM) {
		unsigned top = (word_at(image, AT_FSW) & FSW_TOP) >> 11;

		memcpy(&value, image + AT_ST + 16 * (size_t)((from->reg - top) & 7), sizeof(value));
	} else {
		r = insn_read(x, 1, &value);
	}
	if (r == INSN_DONE && !(to->kind == INSN_OP_REG && to->klass == INSN_MM)) {
		r = insn_write(x, 0, value);
	}
	if (r != INSN_DONE) {
		return r;
	}
	make_mmx(image);
	if (to->kind == INSN_OP_REG && to->klass == INSN_MM) {
		uint8_t *mm = image + AT_ST + 16 * (size_t)(to->reg & 7);

		memcpy(mm, &value, sizeof(value));
		set_word(mm, sizeof(value), EXPONENT_MMX);
	}
	return INSN_DONE;
}
