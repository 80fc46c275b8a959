#include "lib/chip/pic_internal.h"

#define CASCADE 2

#define ICW1	  0x10
#define ICW1_IC4  0x01
#define ICW1_SNGL 0x02
#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10

#define OCW2_LEVEL  0x07
#define OCW2_EOI    0x20
#define OCW2_SL	    0x40
#define OCW2_ROTATE 0x80

#define OCW3	  0x08
#define OCW3_RIS  0x01
#define OCW3_RR	  0x02
#define OCW3_P	  0x04
#define OCW3_SMM  0x20
#define OCW3_ESMM 0x40

#define POLL_REQUEST 0x80

/* The input of highest priority in @inputs, as its distance from the top; 8 for none. */
static unsigned highest(const struct pic_chip *chip, uint8_t inputs)
{
	unsigned n = 0;

	while (n < 8 && (inputs & 1u << ((chip->lowest + 1 + n) & 7)) == 0) {
		n++;
	}
	return n;
}

static unsigned input_at(const struct pic_chip *chip, unsigned priority)
{
	return (chip->lowest + 1 + priority) & 7;
}

/* The input that asks for the CPU now, or -1. */
static int request(const struct pic_chip *chip, bool master)
{
	uint8_t in_service = chip->isr;
	unsigned wanted = highest(chip, chip->irr & (uint8_t)~chip->imr);

	if (chip->special_mask) {
		in_service &= (uint8_t)~chip->imr;
	}
	if (chip->fully_nested && master) {
		/* The slave may interrupt its own service, by an input of higher priority. */
		in_service &= (uint8_t) ~(1u << CASCADE);
	}
	if (wanted >= highest(chip, in_service)) {
		return -1;
	}
	return (int)input_at(chip, wanted);
}

void pic_update(struct pic *pic)
{
	struct pic_chip *m = &pic->master;
	struct pic_chip *s = &pic->slave;
	bool level;

	m->irr = (uint8_t)((m->irr & ~m->elcr) | (m->lines & m->elcr));
	s->irr = (uint8_t)((s->irr & ~s->elcr) | (s->lines & s->elcr));
	/*
	 * Latched as long as the slave asks: its output falls for a moment in each INTA, which
	 * gives the master an edge for each request, even when the slave has several.
	 */
	if (!m->single && request(s, false) >= 0) {
		m->irr |= 1u << CASCADE;
	}
	level = request(m, true) >= 0;
	if (level != pic->intr_level) {
		/* Others look without the lock. */
		__atomic_store_n(&pic->intr_level, level, __ATOMIC_RELAXED);
		irq_line_set(&pic->intr, level);
	}
}

void pic_init(struct pic *pic, struct irq_line intr)
{
	*pic = (struct pic){.intr = intr, .master.lowest = 7, .slave.lowest = 7};
}

void pic_set_irq(struct pic *pic, unsigned pin, bool level)
{
	struct pic_chip *chip = pin < 8 ? &pic->master : &pic->slave;
	uint8_t bit = (uint8_t)(1u << (pin & 7));

	if (pin >= PIC_PINS || pin == CASCADE) {
		return;
	}
	if (level) {
		if ((chip->lines & bit) == 0) {
			chip->irr |= bit;
		}
		chip->lines |= bit;
	} else {
		chip->lines &= (uint8_t)~bit;
	}
	pic_update(pic);
}

/* The chip's part of INTA for @input: into service, unless it ends it by itself. */
static void acknowledge(struct pic_chip *chip, unsigned input)
{
	uint8_t bit = (uint8_t)(1u << input);

	if (!chip->auto_eoi) {
		chip->isr |= bit;
	} else if (chip->rotate_in_aeoi) {
		chip->lowest = (uint8_t)input;
	}
	if ((chip->elcr & bit) == 0) {
		chip->irr &= (uint8_t)~bit;
	}
}

uint8_t pic_ack(struct pic *pic)
{
	struct pic_chip *chip = &pic->master;
	int input = request(chip, true);

	if (input >= 0) {
		acknowledge(chip, (unsigned)input);
	}
	if (input == CASCADE && !chip->single) {
		chip = &pic->slave;
		input = request(chip, false);
		if (input >= 0) {
			acknowledge(chip, (unsigned)input);
		}
	}
	pic_update(pic);
	return (uint8_t)(chip->icw2 | (input >= 0 ? input : 7));
}

static void write_icw1(struct pic_chip *chip, uint8_t value)
{
	/* LTIM has no meaning beside the ELCR (ICH9 data sheet, "ICW1"). */
	*chip = (struct pic_chip){
		.lines = chip->lines,
		.elcr = chip->elcr,
		.icw2 = chip->icw2,
		.icw3 = chip->icw3,
		.next_icw = 2,
		.lowest = 7,
		.ic4 = (value & ICW1_IC4) != 0,
		.single = (value & ICW1_SNGL) != 0,
	};
}

static void write_icw(struct pic_chip *chip, uint8_t value)
{
	uint8_t after_cascade = chip->ic4 ? 4 : 0;

	switch (chip->next_icw) {
	case 2:
		chip->icw2 = value & 0xf8;
		chip->next_icw = chip->single ? after_cascade : 3;
		break;
	case 3:
		chip->icw3 = value;
		chip->next_icw = after_cascade;
		break;
	default:
		chip->auto_eoi = (value & ICW4_AEOI) != 0;
		chip->fully_nested = (value & ICW4_SFNM) != 0;
		chip->next_icw = 0;
		break;
	}
}

static void write_ocw2(struct pic_chip *chip, uint8_t value)
{
	unsigned input = value & OCW2_LEVEL;
	uint8_t in_service = chip->isr;

	switch (value & (OCW2_ROTATE | OCW2_SL | OCW2_EOI)) {
	case OCW2_EOI:
	case OCW2_ROTATE | OCW2_EOI:
		/* "A non-specific EOI will not clear an IS bit that is masked in special mask
		 * mode." */
		if (chip->special_mask) {
			in_service &= (uint8_t)~chip->imr;
		}
		if (in_service == 0) {
			return;
		}
		input = input_at(chip, highest(chip, in_service));
		break;
	case OCW2_SL | OCW2_EOI:
	case OCW2_ROTATE | OCW2_SL | OCW2_EOI:
		break;
	case OCW2_ROTATE:
		chip->rotate_in_aeoi = true;
		return;
	case 0:
		chip->rotate_in_aeoi = false;
		return;
	case OCW2_ROTATE | OCW2_SL:
		chip->lowest = (uint8_t)input;
		return;
	default: /* SL alone: no operation */
		return;
	}
	chip->isr &= (uint8_t) ~(1u << input);
	if ((value & OCW2_ROTATE) != 0) {
		chip->lowest = (uint8_t)input;
	}
}

static void write_ocw3(struct pic_chip *chip, uint8_t value)
{
	if ((value & OCW3_ESMM) != 0) {
		chip->special_mask = (value & OCW3_SMM) != 0;
	}
	if ((value & OCW3_RR) != 0) {
		chip->read_isr = (value & OCW3_RIS) != 0;
	}
	if ((value & OCW3_P) != 0) {
		chip->poll = true;
	}
}

static void chip_write(struct pic_chip *chip, bool data, uint8_t value)
{
	if (data) {
		if (chip->next_icw != 0) {
			write_icw(chip, value);
		} else {
			chip->imr = value;
		}
	} else if ((value & ICW1) != 0) {
		write_icw1(chip, value);
	} else if ((value & OCW3) != 0) {
		write_ocw3(chip, value);
	} else {
		write_ocw2(chip, value);
	}
}

void pic_write(struct pic *pic, uint16_t port, uint8_t value)
{
	switch (port) {
	case PIC_MASTER_COMMAND:
	case PIC_MASTER_DATA:
		chip_write(&pic->master, port == PIC_MASTER_DATA, value);
		break;
	case PIC_SLAVE_COMMAND:
	case PIC_SLAVE_DATA:
		chip_write(&pic->slave, port == PIC_SLAVE_DATA, value);
		break;
	case PIC_ELCR1:
		pic->master.elcr = value & ELCR1_WRITABLE;
		break;
	case PIC_ELCR2:
		pic->slave.elcr = value & ELCR2_WRITABLE;
		break;
	default:
		return;
	}
	pic_update(pic);
}

/* After a poll command the next read, at either port, is an INTA for this chip alone. */
static uint8_t poll(struct pic *pic, struct pic_chip *chip)
{
	int input = request(chip, chip == &pic->master);

	chip->poll = false;
	if (input < 0) {
		return 0;
	}
	acknowledge(chip, (unsigned)input);
	pic_update(pic);
	return (uint8_t)(POLL_REQUEST | input);
}

static uint8_t chip_read(struct pic *pic, struct pic_chip *chip, bool data)
{
	if (chip->poll) {
		return poll(pic, chip);
	}
	if (data) {
		return chip->imr;
	}
	return chip->read_isr ? chip->isr : chip->irr;
}

uint8_t pic_read(struct pic *pic, uint16_t port)
{
	switch (port) {
	case PIC_MASTER_COMMAND:
	case PIC_MASTER_DATA:
		return chip_read(pic, &pic->master, port == PIC_MASTER_DATA);
	case PIC_SLAVE_COMMAND:
	case PIC_SLAVE_DATA:
		return chip_read(pic, &pic->slave, port == PIC_SLAVE_DATA);
	case PIC_ELCR1:
		return pic->master.elcr;
	case PIC_ELCR2:
		return pic->slave.elcr;
	default:
		return 0xff;
	}
}
