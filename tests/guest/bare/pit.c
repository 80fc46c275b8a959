/* The 8254: counting, reading back, channel 2 by port 0x61. */
#include "tests/guest/bare/apic_regs.h"

#define READ_BACK 0xc0
#define NO_COUNT  0x20
#define NO_STATUS 0x10

static uint16_t latched(void)
{
	uint8_t low;

	out8(PIT_CONTROL, 0x00);
	low = in8(PIT_CHANNEL0);
	return (uint16_t)(low | in8(PIT_CHANNEL0) << 8);
}

static uint8_t status(uint8_t channel)
{
	out8(PIT_CONTROL, (uint8_t)(READ_BACK | NO_COUNT | 2 << channel));
	return in8((uint16_t)(PIT_CHANNEL0 + channel));
}

BARE_CASE_ON(counts, "pit/latched_count_goes_down", "Intel 8254, counter latch command", 1, BARE_PC)
{
	uint16_t last, now;
	bool falls;

	do {
		pit_start(0, 0xffff);
		falls = true;
		last = latched();
		for (int i = 0; i < 5; i++) {
			do {
				now = latched();
				falls = falls && now <= last;
			} while (now == last);
			last = now;
		}
		/* On a busy host it may have gone round meanwhile. */
	} while ((status(0) & 0x80) != 0);
	check(falls);
}

BARE_CASE_ON(latch_holds, "pit/latch_holds_until_read", "Intel 8254, counter latch command", 1,
	     BARE_PC)
{
	uint16_t first, second;

	pit_start(2, 0);
	out8(PIT_CONTROL, 0x00);
	for (int i = 0; i < 2000; i++) {
		cpu_pause();
	}
	out8(PIT_CONTROL, 0x00); /* the second latch is ignored */
	first = in8(PIT_CHANNEL0);
	first = (uint16_t)(first | in8(PIT_CHANNEL0) << 8);
	second = latched();
	check(first != second);
}

BARE_CASE_ON(read_back, "pit/status_tells_mode_and_output", "Intel 8254, read-back command", 1,
	     BARE_PC)
{
	pit_start(2, 1000);
	check_eq(status(0) & 0x3f, 0x34);
	out8(PIT_CONTROL, 0x96); /* channel 2, low byte only, mode 3 */
	out8(PIT_CHANNEL2, 100);
	check_eq(status(2) & 0x3f, 0x16);
	pit_start(0, 0xffff);
	check_eq(status(0) & 0x80, 0); /* mode 0: low until the end */
	pit_start(0, 10);
	while ((status(0) & 0x80) == 0) {
		cpu_pause();
	}
	check_eq(status(0) & 0x3f, 0x30);
}

BARE_CASE_ON(speaker, "pit/channel_2_counts_while_its_gate_is_open", "Intel 82371AB, port 61h", 1,
	     BARE_PC)
{
	out8(PIT_SPEAKER, 0x00); /* gate closed, silent */
	out8(PIT_CONTROL, 0xb0); /* mode 0 */
	out8(PIT_CHANNEL2, 0xff);
	out8(PIT_CHANNEL2, 0x0f);
	out8(PIT_SPEAKER, 0x01);
	check_eq(in8(PIT_SPEAKER) & 0x03, 0x01);
	while ((in8(PIT_SPEAKER) & 0x20) == 0) {
		cpu_pause();
	}
	out8(PIT_CONTROL, 0xb0);
	out8(PIT_CHANNEL2, 0xff);
	out8(PIT_CHANNEL2, 0xff);
	check_eq(in8(PIT_SPEAKER) & 0x20, 0);
}

static void count_and_end(uint8_t mode, uint32_t want)
{
	irq_take_silently(0x20);
	apic_enable();
	apic_write(APIC_LVT_LINT0, LVT_EXTINT);
	pit_start(5, 0); /* silent: its gate does not rise */
	pic_init(0x03);	 /* automatic EOI */
	pit_start(mode, 3000);
	out8(PIC1_DATA, 0xfa);
	irq_wait(0x20, want);
}

BARE_CASE_ON(mode2, "pit/mode_2_goes_on", "Intel 8254, mode 2", 1, BARE_PC)
{
	count_and_end(2, 4);
}

BARE_CASE_ON(mode3, "pit/mode_3_goes_on", "Intel 8254, mode 3", 1, BARE_PC)
{
	count_and_end(3, 4);
}

BARE_CASE_ON(mode0, "pit/mode_0_comes_once_for_each_count", "Intel 8254, mode 0", 1, BARE_PC)
{
	count_and_end(0, 1);
	/* The counter goes round meanwhile: no further edge. */
	for (int i = 0; i < 20; i++) {
		latched();
		irq_open();
	}
	check_eq(irq_log(0)->count[0x20], 1);
	out8(PIT_CHANNEL0, 100);
	out8(PIT_CHANNEL0, 0);
	irq_wait(0x20, 2);
}
