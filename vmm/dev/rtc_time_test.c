#include "vmm/dev/rtc_time.h"

#include <string.h>
#include <time.h>

#include "tests/unit.h"

#define BCD_24	  RTC_B_24H
#define BINARY_24 (RTC_B_24H | RTC_B_DM)
#define BCD_12	  0
#define BINARY_12 RTC_B_DM

static void known_times(void **unused)
{
	static const struct {
		uint8_t format;
		int64_t seconds;
		uint8_t s, min, h, wday, day, mon, year, century;
	} cases[] = {
		{BCD_24, 0, 0x00, 0x00, 0x00, 5, 0x01, 0x01, 0x70, 0x19},
		{BCD_24, 951827696, 0x56, 0x34, 0x12, 3, 0x29, 0x02, 0x00, 0x20},
		{BINARY_24, 951827696, 56, 34, 12, 3, 29, 2, 0, 20},
		{BCD_12, 951827696, 0x56, 0x34, 0x92, 3, 0x29, 0x02, 0x00, 0x20}, /* noon */
		{BCD_12, 951784496, 0x56, 0x34, 0x12, 3, 0x29, 0x02, 0x00, 0x20}, /* midnight */
		{BINARY_12, 951831296, 56, 34, 0x81, 3, 29, 2, 0, 20},
		{BCD_24, 4102444799, 0x59, 0x59, 0x23, 5, 0x31, 0x12, 0x99, 0x20},
		{BCD_24, -1, 0x59, 0x59, 0x23, 4, 0x31, 0x12, 0x69, 0x19},
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t ram[128] = {0};

		ram[RTC_B] = cases[i].format;
		rtc_time_encode(ram, cases[i].seconds);
		assert_int_equal(ram[RTC_SECONDS], cases[i].s);
		assert_int_equal(ram[RTC_MINUTES], cases[i].min);
		assert_int_equal(ram[RTC_HOURS], cases[i].h);
		assert_int_equal(ram[RTC_WEEKDAY], cases[i].wday);
		assert_int_equal(ram[RTC_DAY], cases[i].day);
		assert_int_equal(ram[RTC_MONTH], cases[i].mon);
		assert_int_equal(ram[RTC_YEAR], cases[i].year);
		assert_int_equal(ram[RTC_CENTURY_BYTE], cases[i].century);
		assert_int_equal(rtc_time_decode(ram), cases[i].seconds);
	}
}

/* Over 600 years, against the C library; and back in every format. */
static void calendar(void **unused)
{
	uint8_t ram[128] = {0};

	(void)unused;
	for (int64_t t = -9000000000; t < 9000000000; t += 86400 * 3 + 4567) {
		time_t time = t;
		struct tm tm;

		gmtime_r(&time, &tm);
		for (uint8_t format = 0; format < 8; format += 2) {
			ram[RTC_B] = format;
			rtc_time_encode(ram, t);
			assert_true(rtc_time_decode(ram) == t);
		}
		ram[RTC_B] = BINARY_24;
		rtc_time_encode(ram, t);
		assert_int_equal(ram[RTC_DAY], tm.tm_mday);
		assert_int_equal(ram[RTC_MONTH], tm.tm_mon + 1);
		assert_int_equal(ram[RTC_WEEKDAY], tm.tm_wday + 1);
		assert_int_equal(ram[RTC_CENTURY_BYTE] * 100 + ram[RTC_YEAR], tm.tm_year + 1900);
	}
}

/* Whatever bytes a guest writes there: a time comes out, and goes back in. */
static void any_bytes(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < 256; i++) {
		for (uint8_t format = 0; format < 8; format += 2) {
			uint8_t ram[128];

			memset(ram, (int)i, sizeof(ram));
			ram[RTC_B] = format;
			int64_t t = rtc_time_decode(ram);
			rtc_time_encode(ram, t);
			assert_true(rtc_time_decode(ram) == t);
		}
	}
}

static int64_t alarm_at(uint8_t format, uint8_t h, uint8_t m, uint8_t s, int64_t after)
{
	uint8_t ram[128] = {0};

	ram[RTC_B] = format;
	ram[RTC_HOURS_ALARM] = h;
	ram[RTC_MINUTES_ALARM] = m;
	ram[RTC_SECONDS_ALARM] = s;
	return rtc_time_alarm(ram, after);
}

static void alarms(void **unused)
{
	const int64_t midnight = 951782400;
	const int64_t noon = midnight + 43200;

	(void)unused;
	assert_true(alarm_at(BCD_24, 0x12, 0x34, 0x56, midnight) == noon + 2096);
	assert_true(alarm_at(BCD_24, 0x12, 0x34, 0x56, noon + 2096) == noon + 2096 + 86400);
	assert_true(alarm_at(BCD_12, 0x92, 0x34, 0x56, midnight) == noon + 2096);
	assert_true(alarm_at(BINARY_12, 12, 0, 0, midnight) == midnight + 86400);
	assert_true(alarm_at(BCD_24, 0xff, 0x00, 0x00, noon) == noon + 3600); /* every hour */
	assert_true(alarm_at(BCD_24, 0xc0, 0xc0, 0x30, noon) == noon + 30);
	assert_true(alarm_at(BCD_24, 0xff, 0xff, 0x30, noon + 30) == noon + 90);
	assert_true(alarm_at(BCD_24, 0xff, 0xff, 0xff, noon) == noon + 1);
	assert_true(alarm_at(BCD_24, 0x23, 0xff, 0x00, noon) == noon + 11 * 3600);
	assert_true(alarm_at(BCD_24, 0xff, 0x59, 0x59, -1) == 3599);
	/* Never. */
	assert_true(alarm_at(BCD_24, 0xff, 0xff, 0x60, noon) == RTC_ALARM_NEVER);
	assert_true(alarm_at(BCD_24, 0xff, 0x7f, 0xff, noon) == RTC_ALARM_NEVER);
	assert_true(alarm_at(BCD_24, 0x24, 0xff, 0xff, noon) == RTC_ALARM_NEVER);
	assert_true(alarm_at(BCD_12, 0x00, 0xff, 0xff, noon) == RTC_ALARM_NEVER);
	assert_true(alarm_at(BINARY_12, 13, 0xff, 0xff, noon) == RTC_ALARM_NEVER);
	/* Every combination comes to an end, at a time after the one given. */
	for (unsigned i = 0; i < 1u << 16; i++) {
		int64_t t = alarm_at(BCD_24, (uint8_t)(i >> 8), (uint8_t)i, (uint8_t)(i * 7), noon);

		assert_true(t > noon);
		assert_true(t == RTC_ALARM_NEVER || t <= noon + 86400);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_times),
		cmocka_unit_test(calendar),
		cmocka_unit_test(any_bytes),
		cmocka_unit_test(alarms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
