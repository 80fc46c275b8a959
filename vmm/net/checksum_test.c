#include "vmm/net/checksum.h"

#include <string.h>

#include "lib/base/bytes.h"
#include "tests/unit.h"

/* The sum as RFC 1071 writes it down, in network order. */
static uint16_t slow(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum += (i & 1) == 0 ? (uint32_t)p[i] << 8 : p[i];
	}
	while (sum >> 16 != 0) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	sum = ~sum & 0xffff;
	return (uint16_t)(sum != 0 ? sum : 0xffff);
}

static uint16_t network_order(uint16_t v)
{
	return __builtin_bswap16(v);
}

static void rfc1071_example(void **unused)
{
	/* RFC 1071, section 3: the sum of these is ddf2. */
	uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	struct iovec iov = {data, sizeof(data)};

	(void)unused;
	assert_int_equal(network_order(checksum_iov(&iov, 1, 0, 8)), (uint16_t)~0xddf2);
}

static void any_cut(void **unused)
{
	uint8_t data[67];
	uint32_t x = 1;

	(void)unused;
	for (unsigned i = 0; i < sizeof(data); i++) {
		x = x * 1103515245 + 12345;
		data[i] = (uint8_t)(x >> 16);
	}
	for (size_t a = 0; a <= 20; a++) {
		for (size_t b = a; b <= sizeof(data); b++) {
			struct iovec iov[3] = {
				{data, a},
				{data + a, b - a},
				{data + b, sizeof(data) - b},
			};

			for (size_t offset = 0; offset < 9; offset++) {
				size_t len = sizeof(data) - offset - (b & 3);

				assert_int_equal(network_order(checksum_iov(iov, 3, offset, len)),
						 slow(data + offset, len));
			}
		}
	}
}

static void carries(void **unused)
{
	static uint8_t data[65536];
	struct iovec iov = {data, sizeof(data)};

	(void)unused;
	memset(data, 0xff, sizeof(data));
	assert_int_equal(checksum_iov(&iov, 1, 0, sizeof(data)), 0xffff);
	data[0] = 0xfe;
	assert_int_equal(network_order(checksum_iov(&iov, 1, 0, sizeof(data))),
			 slow(data, sizeof(data)));
	/* Past the end there are zeroes. */
	assert_int_equal(checksum_iov(&iov, 1, 65534, 100), 0xffff);
	assert_int_equal(checksum_iov(&iov, 0, 0, 100), 0xffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc1071_example),
		cmocka_unit_test(any_cut),
		cmocka_unit_test(carries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
