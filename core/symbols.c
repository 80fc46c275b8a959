#include "core/symbols.h"

extern const char kernel_start[], kernel_text_end[];

/* By symbols.py: begins of functions, by rising addresses, as distances from kernel_start; and
 * where each one's name begins in symbol_names. */
extern const uint32_t symbol_count;
extern const struct {
	uint32_t start;
	uint32_t name;
} symbol_table[];
extern const char symbol_names[];

const char *symbol_at(uint64_t address, uint64_t *offset)
{
	uint32_t low = 0;
	uint32_t high = symbol_count;
	uint64_t at = address - (uint64_t)kernel_start;

	*offset = 0;
	if (at >= (uint64_t)(kernel_text_end - kernel_start) || symbol_count == 0) {
		return "?";
	}
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (symbol_table[middle].start <= at) {
			low = middle;
		} else {
			high = middle;
		}
	}
	if (symbol_table[low].start > at) {
		return "?";
	}
	*offset = at - symbol_table[low].start;
	return &symbol_names[symbol_table[low].name];
}
