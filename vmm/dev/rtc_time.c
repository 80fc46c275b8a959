#include "vmm/dev/rtc_time.h"

#define PM 0x80

/* An alarm register with both high bits set matches anything. */
#define ANY 0xc0

#define DAY_S 86400

/* The quotient rounded towards minus infinity, for times before 1970. */
static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* @a modulo @b, not negative. */
static int64_t floor_mod(int64_t a, int64_t b)
{
	return a - floor_div(a, b) * b;
}

/*
 * Days since 1970-01-01 of a date of the Gregorian calendar. Years begin in March here, so that
 * the leap day is their last: then month m (0 is March) begins after (153 m + 2) / 5 days.
 */
static int64_t days_of(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int m = (month + 9) % 12;

	return y * 365 + floor_div(y, 4) - floor_div(y, 100) + floor_div(y, 400) +
	       (153 * m + 2) / 5 + day - 1 - 719468;
}

static void date_of(int64_t days, int64_t *year, int *month, int *day)
{
	/* 400 years have 146097 days, so this is off by one at most. */
	int64_t y = 1970 + floor_div(days * 400, 146097);
	int m = 12;

	while (days < days_of(y, 1, 1)) {
		y--;
	}
	while (days >= days_of(y + 1, 1, 1)) {
		y++;
	}
	while (days < days_of(y, m, 1)) {
		m--;
	}
	*year = y;
	*month = m;
	*day = (int)(days - days_of(y, m, 1)) + 1;
}

static uint8_t encode(const uint8_t *ram, int v)
{
	return (uint8_t)((ram[RTC_B] & RTC_B_DM) != 0 ? v : v / 10 << 4 | v % 10);
}

static int decode(const uint8_t *ram, uint8_t v)
{
	return (ram[RTC_B] & RTC_B_DM) != 0 ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const uint8_t *ram, int hour)
{
	if ((ram[RTC_B] & RTC_B_24H) != 0) {
		return encode(ram, hour);
	}
	return encode(ram, (hour + 11) % 12 + 1) | (hour >= 12 ? PM : 0);
}

static int decode_hour(const uint8_t *ram, uint8_t v)
{
	int hour;

	if ((ram[RTC_B] & RTC_B_24H) != 0) {
		return decode(ram, v);
	}
	hour = decode(ram, v & (uint8_t)~PM);
	if (hour < 1 || hour > 12) {
		return 24; /* no hour */
	}
	return hour % 12 + ((v & PM) != 0 ? 12 : 0);
}

void rtc_time_encode(uint8_t *ram, int64_t seconds)
{
	int64_t days = floor_div(seconds, DAY_S);
	int s = (int)floor_mod(seconds, DAY_S);
	int64_t year;
	int month, day;

	date_of(days, &year, &month, &day);
	ram[RTC_SECONDS] = encode(ram, s % 60);
	ram[RTC_MINUTES] = encode(ram, s / 60 % 60);
	ram[RTC_HOURS] = encode_hour(ram, s / 3600);
	/* 1970-01-01 was a Thursday; Sunday is 1. */
	ram[RTC_WEEKDAY] = encode(ram, (int)floor_mod(days + 4, 7) + 1);
	ram[RTC_DAY] = encode(ram, day);
	ram[RTC_MONTH] = encode(ram, month);
	ram[RTC_YEAR] = encode(ram, (int)floor_mod(year, 100));
	ram[RTC_CENTURY_BYTE] = encode(ram, (int)floor_mod(floor_div(year, 100), 100));
}

int64_t rtc_time_decode(const uint8_t *ram)
{
	int century = MIN(decode(ram, ram[RTC_CENTURY_BYTE]), 99);
	int year = MIN(decode(ram, ram[RTC_YEAR]), 99);
	int month = MAX(1, MIN(decode(ram, ram[RTC_MONTH]), 12));
	int day = MAX(1, MIN(decode(ram, ram[RTC_DAY]), 31));
	int hour = MIN(decode_hour(ram, ram[RTC_HOURS]), 23);
	int minute = MIN(decode(ram, ram[RTC_MINUTES]), 59);
	int second = MIN(decode(ram, ram[RTC_SECONDS]), 59);

	return days_of(century * 100 + year, month, day) * DAY_S + hour * 3600 + minute * 60 +
	       second;
}

/* What an alarm register waits for; a negative number is for anything. */
static int wanted(uint8_t reg, int value)
{
	return (reg & ANY) == ANY ? -1 : value;
}

static bool matches(int want, int now)
{
	return want < 0 || want == now;
}

int64_t rtc_time_alarm(const uint8_t *ram, int64_t after)
{
	int hour = wanted(ram[RTC_HOURS_ALARM], decode_hour(ram, ram[RTC_HOURS_ALARM]));
	int minute = wanted(ram[RTC_MINUTES_ALARM], decode(ram, ram[RTC_MINUTES_ALARM]));
	int second = wanted(ram[RTC_SECONDS_ALARM], decode(ram, ram[RTC_SECONDS_ALARM]));
	int64_t t = after + 1;

	if (hour > 23 || minute > 59 || second > 59) {
		return RTC_ALARM_NEVER;
	}
	/* By seconds, then by minutes, then by hours: at most 60 + 60 + 24 steps and one of each.
	 */
	for (;;) {
		int s = (int)floor_mod(t, DAY_S);

		if (!matches(hour, s / 3600)) {
			t += 3600 - s % 3600;
		} else if (!matches(minute, s / 60 % 60)) {
			t += 60 - s % 60;
		} else if (!matches(second, s % 60)) {
			t++;
		} else {
			return t;
		}
	}
}
