#include "core/boot/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit.h"

struct archive {
	uint8_t data[8192];
	size_t len;
};

static void align(struct archive *a)
{
	while (a->len % 4 != 0) {
		a->data[a->len++] = 0;
	}
}

static void add(struct archive *a, const char *name, unsigned mode, const char *content)
{
	size_t len = strlen(content);

	a->len += (size_t)sprintf((char *)a->data + a->len,
				  "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X",
				  17, mode, 0, 0, 1, 99, len, 0, 0, 5, 1, strlen(name) + 1, 0);
	memcpy(a->data + a->len, name, strlen(name) + 1);
	a->len += strlen(name) + 1;
	align(a);
	memcpy(a->data + a->len, content, len);
	a->len += len;
	align(a);
}

/* On the heap and as long as it says, so that a read behind it is seen. */
static int read_all(const struct archive *a, size_t len, unsigned *n, size_t *position)
{
	uint8_t *copy = malloc(MAX(len, 1));
	struct cpio_entry e;
	struct cpio c;
	int r;

	memcpy(copy, a->data, len);
	cpio_init(&c, copy, len);
	for (*n = 0; (r = cpio_next(&c, &e)) > 0; ++*n) {
		assert_int_equal(strlen(e.name), e.name_len);
		for (size_t i = 0; i < e.len; i++) {
			(void)*(const volatile uint8_t *)(e.data + i);
		}
	}
	*position = c.position;
	free(copy);
	return r;
}

static void entries_come_as_they_are(void **state)
{
	struct archive a = {0};
	struct cpio_entry e;
	struct cpio c;

	(void)state;
	add(&a, "etc", 040755, "");
	add(&a, "etc/motd", 0100644, "hello");
	add(&a, "TRAILER!!!", 0, "");
	a.len += 512; /* and a second one, behind zeros */
	add(&a, "dev/console", 020600, "");
	add(&a, "TRAILER!!!", 0, "");
	cpio_init(&c, a.data, a.len);
	assert_int_equal(cpio_next(&c, &e), 1);
	assert_string_equal(e.name, "etc");
	assert_int_equal(e.mode, 040755);
	assert_int_equal(cpio_next(&c, &e), 1);
	assert_string_equal(e.name, "etc/motd");
	assert_int_equal(e.name_len, 8);
	assert_int_equal(e.len, 5);
	assert_memory_equal(e.data, "hello", 5);
	assert_int_equal(e.mtime, 99);
	assert_int_equal(e.inode, 17);
	assert_int_equal(cpio_next(&c, &e), 1);
	assert_string_equal(e.name, "dev/console");
	assert_int_equal(e.device_major, 5);
	assert_int_equal(e.device_minor, 1);
	assert_int_equal(cpio_next(&c, &e), 0);
	assert_int_equal(cpio_next(&c, &e), 0);
}

static void nothing_is_an_archive(void **state)
{
	struct archive a = {0};
	unsigned n;
	size_t at;

	(void)state;
	assert_int_equal(read_all(&a, 0, &n, &at), 0);
	assert_int_equal(read_all(&a, 1000, &n, &at), 0);
	assert_int_equal(n, 0);
}

/* Cut anywhere, it is broken, but for where an entry ends. */
static void a_cut_archive_is_broken(void **state)
{
	struct archive a = {0};
	unsigned n, good = 0;
	size_t at;

	(void)state;
	add(&a, "one", 0100644, "content of one");
	add(&a, "two", 0100644, "content");
	for (size_t len = 1; len < a.len; len++) {
		int r = read_all(&a, len, &n, &at);
		assert_true(r == 0 || r == -EINVAL);
		good += r == 0;
	}
	/* Behind the data of "one", with and without its padding, and of "two" without. */
	assert_int_equal(good, 3 + 1);
}

static void broken_fields_are_refused(void **state)
{
	static const struct {
		size_t at;
		const char *text;
	} cases[] = {
		{0, "070707"},				    /* another format */
		{6 + 8, "0000000g"},			    /* no digit */
		{6 + 48, "ffffffff"},			    /* file size */
		{6 + 88, "00000000"},			    /* name size */
		{6 + 88, "ffffffff"}, {6 + 88, "00000003"}, /* no zero at the name's end */
		{6 + 88, "00000006"},			    /* zeros within */
	};
	unsigned n;
	size_t at;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct archive a = {0};
		add(&a, "good", 0100644, "x");
		size_t second = a.len;
		add(&a, "bad", 0100644, "x");
		memcpy(a.data + second + cases[i].at, cases[i].text, strlen(cases[i].text));
		assert_int_equal(read_all(&a, a.len, &n, &at), -EINVAL);
		assert_int_equal(n, 1);
		assert_int_equal(at, second);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_as_they_are),
		cmocka_unit_test(nothing_is_an_archive),
		cmocka_unit_test(a_cut_archive_is_broken),
		cmocka_unit_test(broken_fields_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
