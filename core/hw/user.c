#include "core/hw/user.h"

#include <errno.h>

#include "core/hw/cpu.h"
#include "core/hw/irq.h"
#include "lib/base/check.h"

/* user.S */
size_t user_copy(void *to, const void *from, size_t len);
size_t user_zero(void *to, size_t len);
int user_load32(const void *from, uint32_t *to);
struct user_word user_load64(const void *from);
int user_load32_nofault(const void *from, uint32_t *to);
int user_store32(void *to, uint32_t value);
int user_store64(void *to, uint64_t value);
int user_cas32(void *at, uint32_t expected, uint32_t value, uint32_t *old);
int64_t user_copy_string(char *to, const char *from, size_t size);

bool user_has_smap; /* constant after start-up; user.S */

void user_init(void)
{
	user_has_smap = cpu_features()->smap;
}

/* A fault may sleep, or wait for other CPUs. */
static void check_context(void)
{
	check(cpu_this()->spin_depth == 0 && irq_is_on());
}

size_t user_read_some(void *to, uint64_t va, size_t len)
{
	check_context();
	if (!user_range_ok(va, len)) {
		return 0;
	}
	return len - user_copy(to, (const void *)va, len);
}

size_t user_write_some(uint64_t va, const void *from, size_t len)
{
	check_context();
	if (!user_range_ok(va, len)) {
		return 0;
	}
	return len - user_copy((void *)va, from, len);
}

int user_read(void *to, uint64_t va, size_t len)
{
	return user_read_some(to, va, len) == len ? 0 : -EFAULT;
}

int user_write(uint64_t va, const void *from, size_t len)
{
	return user_write_some(va, from, len) == len ? 0 : -EFAULT;
}

int user_clear(uint64_t va, size_t len)
{
	check_context();
	return user_range_ok(va, len) && user_zero((void *)va, len) == 0 ? 0 : -EFAULT;
}

int64_t user_read_string(char *to, uint64_t va, size_t size)
{
	check_context();
	if (!user_range_ok(va, 1)) {
		return -EFAULT;
	}
	size_t most = MIN(size, USER_END - va);
	int64_t n = user_copy_string(to, (const char *)va, most);
	if (n >= 0) {
		return n;
	}
	return n == -2 && most == size ? -ENAMETOOLONG : -EFAULT;
}

int user_get32(uint64_t va, uint32_t *value)
{
	check_context();
	return user_range_ok(va, 4) && user_load32((const void *)va, value) == 0 ? 0 : -EFAULT;
}

struct user_word user_get_word(uint64_t va)
{
	check_context();
	return user_range_ok(va, 8) ? user_load64((const void *)va) : (struct user_word){-1, 0};
}

int user_get64(uint64_t va, uint64_t *value)
{
	struct user_word w = user_get_word(va);

	if (w.error != 0) {
		return -EFAULT;
	}
	*value = w.value;
	return 0;
}

int user_put32(uint64_t va, uint32_t value)
{
	check_context();
	return user_range_ok(va, 4) && user_store32((void *)va, value) == 0 ? 0 : -EFAULT;
}

int user_put64(uint64_t va, uint64_t value)
{
	check_context();
	return user_range_ok(va, 8) && user_store64((void *)va, value) == 0 ? 0 : -EFAULT;
}

int user_get32_nofault(uint64_t va, uint32_t *value)
{
	if (!user_range_ok(va, 4) || user_load32_nofault((const void *)va, value) != 0) {
		return -EFAULT;
	}
	return 0;
}

int user_cmpxchg32_nofault(uint64_t va, uint32_t expected, uint32_t value, uint32_t *old)
{
	if (!user_range_ok(va, 4) || user_cas32((void *)va, expected, value, old) != 0) {
		return -EFAULT;
	}
	return 0;
}
