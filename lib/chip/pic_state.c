#include <errno.h>

#include "lib/base/state.h"
#include "lib/chip/pic_internal.h"

static void chip_state(struct pic_chip *chip, struct state *s, uint8_t elcr_writable)
{
	state_u8(s, &chip->lines);
	state_u8(s, &chip->irr);
	state_u8(s, &chip->imr);
	state_u8(s, &chip->isr);
	state_u8(s, &chip->elcr);
	state_u8(s, &chip->icw2);
	state_u8(s, &chip->icw3);
	state_u8(s, &chip->next_icw);
	state_u8(s, &chip->lowest);
	state_bool(s, &chip->ic4);
	state_bool(s, &chip->single);
	state_bool(s, &chip->fully_nested);
	state_bool(s, &chip->auto_eoi);
	state_bool(s, &chip->rotate_in_aeoi);
	state_bool(s, &chip->special_mask);
	state_bool(s, &chip->read_isr);
	state_bool(s, &chip->poll);
	if ((chip->elcr & ~elcr_writable) != 0 || (chip->icw2 & 7) != 0 || chip->lowest > 7 ||
	    chip->next_icw == 1 || chip->next_icw > 4) {
		state_fail(s, -EINVAL);
	}
}

void pic_state(struct pic *pic, struct state *s)
{
	struct pic copy = *pic;

	state_begin(s, "pic", 1);
	chip_state(&copy.master, s, ELCR1_WRITABLE);
	chip_state(&copy.slave, s, ELCR2_WRITABLE);
	state_end(s);
	if (!s->loading || s->error != 0) {
		return;
	}
	*pic = copy;
	pic->intr = (struct irq_line){0}; /* the other end has saved the level */
	pic_update(pic);
	pic->intr = copy.intr;
}
