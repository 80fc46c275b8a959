#include "core/boot/memmap.h"

#include <string.h>

static uint64_t end_of(const struct page_range *r)
{
	return r->base + r->len;
}

static void delete (struct memmap *m, size_t i)
{
	m->n--;
	memmove(&m->range[i], &m->range[i + 1], (m->n - i) * sizeof(m->range[0]));
}

static void insert(struct memmap *m, size_t i, uint64_t base, uint64_t len)
{
	if (m->n == MEMMAP_MAX) {
		m->is_full = true;
		return;
	}
	memmove(&m->range[i + 1], &m->range[i], (m->n - i) * sizeof(m->range[0]));
	m->range[i] = (struct page_range){base, len};
	m->n++;
}

static uint64_t cut_len(uint64_t base, uint64_t len)
{
	return MIN(len, UINT64_MAX - base);
}

void memmap_add(struct memmap *m, uint64_t base, uint64_t len)
{
	uint64_t end = base + cut_len(base, len);
	size_t i = 0;

	if (end == base) {
		return;
	}
	while (i < m->n && end_of(&m->range[i]) < base) {
		i++;
	}
	/* All that touch it become one with it. */
	while (i < m->n && m->range[i].base <= end) {
		base = MIN(base, m->range[i].base);
		end = MAX(end, end_of(&m->range[i]));
		delete (m, i);
	}
	insert(m, i, base, end - base);
}

void memmap_remove(struct memmap *m, uint64_t base, uint64_t len)
{
	uint64_t end = base + cut_len(base, len);

	for (size_t i = 0; i < m->n;) {
		struct page_range r = m->range[i];
		if (end_of(&r) <= base || r.base >= end) {
			i++;
			continue;
		}
		delete (m, i);
		if (r.base < base) {
			insert(m, i++, r.base, base - r.base);
		}
		if (end_of(&r) > end) {
			insert(m, i++, end, end_of(&r) - end);
		}
	}
}

void memmap_align(struct memmap *m)
{
	for (size_t i = 0; i < m->n;) {
		struct page_range *r = &m->range[i];
		uint64_t base =
			r->base > UINT64_MAX - PAGE_SIZE ? r->base : ALIGN_UP(r->base, PAGE_SIZE);
		uint64_t end = ALIGN_DOWN(end_of(r), PAGE_SIZE);
		if (end <= base) {
			delete (m, i);
		} else {
			*r = (struct page_range){base, end - base};
			i++;
		}
	}
}

void memmap_limit(struct memmap *m, uint64_t bytes)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->range[i].len >= bytes) {
			m->range[i].len = bytes;
			m->n = bytes > 0 ? i + 1 : i;
			return;
		}
		bytes -= m->range[i].len;
	}
}

uint64_t memmap_bytes(const struct memmap *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->n; i++) {
		sum += m->range[i].len;
	}
	return sum;
}

bool memmap_has(const struct memmap *m, uint64_t base, uint64_t len)
{
	for (size_t i = 0; i < m->n; i++) {
		if (range_inside(base, len, m->range[i].base, m->range[i].len)) {
			return true;
		}
	}
	return false;
}

uint64_t memmap_find(const struct memmap *m, uint64_t len, uint64_t align, uint64_t low,
		     uint64_t high)
{
	for (size_t i = 0; i < m->n; i++) {
		uint64_t base = MAX(m->range[i].base, low);
		uint64_t end = MIN(end_of(&m->range[i]), high);
		if (base > UINT64_MAX - align) {
			break;
		}
		base = ALIGN_UP(base, align);
		if (base < end && len <= end - base) {
			return base;
		}
	}
	return PAGE_NONE;
}
