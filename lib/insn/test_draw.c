#include "lib/insn/test_draw.h"

#include "lib/insn/decode.h"

static uint64_t random_state = 88172645463325252;

uint64_t draw_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

unsigned draw_below(unsigned n)
{
	return (unsigned)(draw_random() >> 20) % n;
}

/* Opcodes that are worth more tries than random bytes give them. */
static unsigned generate_opcode(uint8_t *b)
{
	static const uint8_t two[] = {0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x28, 0x29, 0x2b, 0x6e,
				      0x6f, 0x7e, 0x7f, 0xd6, 0xe7, 0xf0, 0xa3, 0xa4, 0xa5, 0xab,
				      0xac, 0xad, 0xaf, 0xb0, 0xb1, 0xb3, 0xb6, 0xb7, 0xb8, 0xba,
				      0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3, 0xc7, 0xc8};
	unsigned n = 0;

	switch (draw_below(22)) {
	case 21: /* FXSAVE, XSAVE and such, which want an operand in memory */
		b[n++] = 0x0f;
		b[n++] = draw_below(4) != 0 ? 0xae : 0xc7;
		b[n] = (uint8_t)draw_below(0xc0);
		return n;
	case 20: /* CALL, JMP and RET */
		b[n++] = (uint8_t[]){0xe8, 0xe9, 0xeb, 0xc2, 0xc3, 0xff, 0xff, 0xff}[draw_below(8)];
		if (b[n - 1] == 0xff) {
			b[n] = (uint8_t)((b[n] & 0xc7) | (draw_below(2) ? 0x10 : 0x20));
		} else if (b[n - 1] == 0xc2) {
			b[n + 1] &= 3;
		}
		return n;
	case 13:
	case 14:
		b[n++] = 0xd8 + draw_below(8);
		return n;
	case 15:
		b[n++] = 0x0f;
		b[n++] = (uint8_t)draw_below(256);
		return n;
	case 16:
		b[n++] = 0x0f;
		b[n++] = draw_below(2) ? 0x38 : 0x3a;
		b[n++] = (uint8_t)draw_below(256);
		return n;
	case 17:
	case 18:
		if (draw_below(8) == 0) { /* gathers and masked moves */
			static const uint8_t several[] = {0x2c, 0x2d, 0x2e, 0x2f, 0x8c,
							  0x8e, 0x90, 0x91, 0x92, 0x93};

			b[n++] = 0xc4;
			b[n++] = (uint8_t)((draw_random() >> 7 & 0xe0) | 2);
			b[n++] = (uint8_t)((draw_below(256) & 0xfc) | 1);
			b[n++] = several[draw_below(sizeof(several))];
			b[n] = (uint8_t)((draw_below(256) & 0x38) | 4); /* SIB */
			return n;
		}
		b[n++] = 0xc4;
		b[n++] = (uint8_t)((draw_random() >> 7 & 0xe0) | (1 + draw_below(3)));
		b[n++] = (uint8_t)(draw_below(256) | (draw_below(2) ? 0x78 : 0));
		b[n++] = (uint8_t)draw_below(256);
		return n;
	case 19:
		b[n++] = 0xc5;
		b[n++] = (uint8_t)(draw_below(256) | (draw_below(2) ? 0x78 : 0));
		b[n++] = (uint8_t)draw_below(256);
		return n;
	case 12:
		b[n++] = 0xc8 + draw_below(2); /* ENTER, LEAVE */
		b[n] = (uint8_t)draw_below(256);
		b[n + 1] = (uint8_t)draw_below(16);
		b[n + 2] = draw_below(2);
		return n;
	case 0:
	case 1:
		b[n++] = 0x0f;
		b[n++] = two[draw_below(sizeof(two))];
		if (b[n - 1] == 0xc7) { /* CMPXCHG8B, CMPXCHG16B */
			b[n] = (uint8_t)((b[n] & 0x47) | 8);
		}
		return n;
	case 2:
		b[n++] = 0x0f;
		b[n++] = 0x40 + draw_below(16) + (draw_below(2) ? 0x50 : 0);
		return n;
	case 3:
		b[n++] = 0x0f;
		b[n++] = 0x38;
		b[n++] = 0xf0 + draw_below(10);
		return n;
	case 4:
		b[n++] = 0xc4;
		b[n++] = (draw_random() >> 7 & 0xe0) | (draw_below(4) == 0 ? 3 : 2);
		b[n++] = (draw_random() >> 7 & 0xf8) | draw_below(4);
		b[n++] = (b[1] & 3) == 3 ? 0xf0 : 0xf2 + draw_below(6);
		return n;
	case 5:
		b[n++] = 0xf6 + draw_below(2);
		return n;
	case 6:
		b[n++] = (uint8_t[]){0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3}[draw_below(6)];
		return n;
	case 7:
		b[n++] = 0xa4 + draw_below(12);
		return n;
	default:
		b[n++] = (uint8_t)draw_below(256);
		return n;
	}
}

void draw_instruction(uint8_t *b, enum insn_mode mode)
{
	static const uint8_t segments[] = {0x26, 0x36, 0x3e, 0x65};
	static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0xf3, 0xf2, 0xf0, 0x67, 0x67, 0x65};
	unsigned n = 0;

	for (unsigned i = 0; i < INSN_MAX + 1; i++) {
		b[i] = (uint8_t)draw_below(256);
	}
	if (mode == INSN_16 && draw_below(4) == 0) {
		b[n++] = segments[draw_below(sizeof(segments))];
	}
	while (draw_below(3) == 0 && n < 3) {
		b[n++] = prefixes[draw_below(sizeof(prefixes))];
	}
	if (mode == INSN_64 && draw_below(2) == 0) {
		b[n++] = 0x40 + draw_below(16);
	}
	n += generate_opcode(b + n);
	if (draw_below(3) == 0) {
		b[n] |= 0xc0;
	}
}
