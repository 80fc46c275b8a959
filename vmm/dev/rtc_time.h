/*
 * Calendar arithmetic and the number formats of the MC146818's time registers, without a clock.
 */
#pragma once

#include "lib/base/types.h"

/** Registers, by index. */
#define RTC_SECONDS	  0x00
#define RTC_SECONDS_ALARM 0x01
#define RTC_MINUTES	  0x02
#define RTC_MINUTES_ALARM 0x03
#define RTC_HOURS	  0x04
#define RTC_HOURS_ALARM	  0x05
#define RTC_WEEKDAY	  0x06
#define RTC_DAY		  0x07
#define RTC_MONTH	  0x08
#define RTC_YEAR	  0x09
#define RTC_A		  0x0a
#define RTC_B		  0x0b
#define RTC_C		  0x0c
#define RTC_D		  0x0d
#define RTC_CENTURY_BYTE  0x32

#define RTC_B_24H 0x02
#define RTC_B_DM  0x04 /* binary, not BCD */

#define RTC_ALARM_NEVER INT64_MAX

/** rtc_time_encode() - @seconds since 1970 into the registers at @ram, as register B there says. */
void rtc_time_encode(uint8_t *ram, int64_t seconds);

/**
 * rtc_time_decode() - the time in the registers at @ram, in seconds since 1970. The weekday is not
 * looked at. Values that no calendar has count as the nearest that one has.
 */
int64_t rtc_time_decode(const uint8_t *ram);

/**
 * rtc_time_alarm() - the first second after @after at which the alarm registers at @ram match the
 * time of day. Return: RTC_ALARM_NEVER if they never do.
 */
int64_t rtc_time_alarm(const uint8_t *ram, int64_t after);
