/*
 * The kernel's own mappings beside its image and the direct map: kernel stacks between guard pages,
 * and registers of devices.
 */
#pragma once

#include "core/mem/phys.h"
#include "lib/base/types.h"

#define KMAP_STACKS_BASE  UINT64_C(0xffffc00000000000)
#define KMAP_DEVICES_BASE UINT64_C(0xffffd00000000000)

#define KMAP_STACK_BYTES (16 * KIB)

/** kmap_is_guard() - is it an address below a kernel stack? For panics about overflows. */
bool kmap_is_guard(uint64_t va);

/**
 * kmap_stack_create() - a kernel stack with an unmapped page below it. Contents are zero the first
 * time only.
 * Return: the first address behind it, or 0 without memory.
 * Context: any with interrupts on.
 */
must_use uint64_t kmap_stack_create(void);

/** kmap_stack_destroy() - @top: from kmap_stack_create(). Its pages stay mapped, for the next one;
 * they count as free stacks (kmap_stacks()). Context: as kmap_stack_create(), on another stack. */
void kmap_stack_destroy(uint64_t top);

/**
 * kmap_exception_stack() - a stack of one page for an exception, for ever, with an unmapped page
 * below it.
 * @number: by rising numbers, from 0 on; the same one for the same number.
 * Return: the first address behind it, or 0 without memory. Context: as kmap_stack_create().
 */
must_use uint64_t kmap_exception_stack(unsigned number);

/** kmap_stacks() - how many are in use. */
uint64_t kmap_stacks(void);

/**
 * kmap_device() - registers of a device, uncached, for ever.
 * Return: where they are, or NULL without room or memory.
 */
must_use void *kmap_device(hpa_t pa, size_t len);
