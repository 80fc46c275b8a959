#include "core/task/exec.h"

#include <asm/signal.h>
#include <errno.h>
#include <linux/auxvec.h>
#include <string.h>

#include "core/hw/asm.h"
#include "core/hw/context.h"
#include "core/hw/entry.h"
#include "core/hw/irq.h"
#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/mem/page.h"
#include "core/mem/space.h"
#include "core/sys/fd.h"
#include "core/sys/node.h"
#include "core/sys/random.h"
#include "core/sys/tree.h"
#include "core/task/elf.h"
#include "core/task/process.h"
#include "core/task/robust.h"

#define STACK_BYTES  (8 * MIB)
#define PIE_BASE     UINT64_C(0x555555554000)
#define RANDOM_PAGES UINT64_C(0xfffff) /* how far bases are moved */
#define RANDOM_BYTES 16
#define AUX_WORDS    48
#define AT_MINSIGSTK 51

static const char platform[] = "x86_64";

int exec_strings_init(struct exec_strings *s)
{
	*s = (struct exec_strings){.bytes = mem_alloc(EXEC_ARGUMENT_BYTES)};
	return s->bytes != NULL ? 0 : -ENOMEM;
}

void exec_strings_fini(struct exec_strings *s)
{
	mem_free(s->bytes, EXEC_ARGUMENT_BYTES);
}

int exec_strings_add(struct exec_strings *s, const char *text, bool environment)
{
	size_t len = strlen(text) + 1;

	if (len > EXEC_ARGUMENT_BYTES - s->len) {
		return -E2BIG;
	}
	memcpy(s->bytes + s->len, text, len);
	s->len += len;
	if (environment) {
		s->environment++;
	} else {
		s->arguments++;
	}
	return 0;
}

/* A program on its way into a new address space. */
struct image {
	struct space *space;
	struct elf elf;
	uint64_t base; /* 0, or where a position-independent program is */
	uint64_t brk;
	uint64_t stack_top, sp;
	uint64_t arguments, arguments_end;
};

static uint64_t random_pages(void)
{
	uint64_t r;

	random_bytes(&r, sizeof(r));
	return (r & RANDOM_PAGES) * PAGE_SIZE;
}

static int map_segment(struct image *im, struct file *f, const struct elf_segment *s)
{
	uint64_t at = im->base + s->address;
	uint64_t end = ALIGN_UP(im->base + s->memory_end, PAGE_SIZE);
	uint64_t data_end = im->base + s->data_end, mapped_end = at + s->map_len, ignored;
	int error = 0;

	if (s->map_len != 0) {
		struct file_map m = {.offset = s->offset, .len = s->map_len};

		error = f->ops->map(f, &m);
		if (error != 0) {
			return error;
		}
		error = space_map(im->space, at, s->map_len, s->prot, SPACE_FIXED, m.object,
				  s->offset, &ignored);
		object_put(m.object);
	}
	if (error == 0 && end > mapped_end) {
		error = space_map(im->space, mapped_end, end - mapped_end, s->prot, SPACE_FIXED,
				  NULL, 0, &ignored);
	}
	/* The file goes on behind the segment's bytes; memory must not. */
	if (error == 0 && s->map_len != 0 && mapped_end > data_end &&
	    (s->prot & SPACE_WRITE) != 0) {
		static const uint8_t zeros[256];

		while (error == 0 && data_end < mapped_end) {
			size_t len = MIN(mapped_end - data_end, sizeof(zeros));

			error = space_write(im->space, data_end, zeros, len);
			data_end += len;
		}
	}
	return error;
}

static int map_program(struct image *im, struct file *f)
{
	int error = 0;

	if (im->elf.is_relative) {
		im->base = PIE_BASE + random_pages();
	}
	for (unsigned i = 0; i < im->elf.segment_count && error == 0; i++) {
		error = map_segment(im, f, &im->elf.segment[i]);
	}
	im->brk = im->base + im->elf.end + random_pages() % (32 * MIB);
	return error;
}

static int map_stack(struct image *im)
{
	uint64_t bytes = MIN(process_current()->limits.stack, STACK_BYTES);
	uint64_t ignored;

	bytes = MAX(ALIGN_UP(bytes, PAGE_SIZE), 2 * (uint64_t)EXEC_ARGUMENT_BYTES);
	im->stack_top = USER_END - PAGE_SIZE - random_pages();
	return space_map(im->space, im->stack_top - bytes, bytes, SPACE_READ | SPACE_WRITE,
			 SPACE_FIXED | SPACE_NOHUGE, NULL, 0, &ignored);
}

static int push(struct image *im, const void *data, size_t len)
{
	im->sp -= len;
	return space_write(im->space, im->sp, data, len);
}

static unsigned fill_aux(const struct image *im, uint64_t *aux, uint64_t random, uint64_t name,
			 uint64_t platform_at)
{
	const struct elf *e = &im->elf;
	const uint64_t pairs[][2] = {
		{AT_PHDR, im->base + e->headers},
		{AT_PHENT, 56},
		{AT_PHNUM, e->header_count},
		{AT_PAGESZ, PAGE_SIZE},
		{AT_BASE, 0},
		{AT_FLAGS, 0},
		{AT_ENTRY, im->base + e->entry},
		{AT_UID, 0},
		{AT_EUID, 0},
		{AT_GID, 0},
		{AT_EGID, 0},
		{AT_SECURE, 0},
		{AT_CLKTCK, 100},
		{AT_RANDOM, random},
		{AT_HWCAP, asm_cpuid(1, 0).edx},
		{AT_HWCAP2, 0}, /* not RDFSBASE: see context.c */
		{AT_MINSIGSTK, fpu_area_bytes() + 1024},
		{AT_EXECFN, name},
		{AT_PLATFORM, platform_at},
		{AT_NULL, 0},
	};

	_Static_assert(ARRAY_SIZE(pairs) * 2 <= AUX_WORDS, "room for the auxiliary vector");
	memcpy(aux, pairs, sizeof(pairs));
	return ARRAY_SIZE(pairs) * 2;
}

/* Pointers to @count strings from @at on, and a NULL. */
static int write_pointers(struct image *im, uint64_t where, unsigned count, uint64_t *string,
			  const char **text)
{
	for (unsigned i = 0; i <= count; i++) {
		uint64_t pointer = i < count ? *string : 0;
		int error = space_write(im->space, where + i * 8ull, &pointer, sizeof(pointer));

		if (error != 0) {
			return error;
		}
		if (i < count) {
			size_t len = strlen(*text) + 1;

			*string += len;
			*text += len;
		}
	}
	return 0;
}

/*
 *	stack_top
 *	  strings of argv[] and envp[]
 *	  the program's name, "x86_64", random bytes
 *	  auxiliary vector
 *	  envp[], NULL
 *	  argv[], NULL
 *	  argc			<- RSP, 16-aligned
 */
static int build_stack(struct image *im, const struct exec_strings *s, const char *name)
{
	uint64_t aux[AUX_WORDS], random_at, name_at, platform_at, at, string;
	uint64_t argc = s->arguments;
	uint8_t random[RANDOM_BYTES];
	const char *text = s->bytes;
	unsigned words;
	int error;

	im->sp = im->stack_top;
	error = push(im, s->bytes, s->len);
	im->arguments = im->sp;
	string = im->sp;
	random_bytes(random, sizeof(random));
	error = error != 0 ? error : push(im, name, strlen(name) + 1);
	name_at = im->sp;
	error = error != 0 ? error : push(im, platform, sizeof(platform));
	platform_at = im->sp;
	error = error != 0 ? error : push(im, random, sizeof(random));
	random_at = im->sp;
	words = fill_aux(im, aux, random_at, name_at, platform_at);
	at = ALIGN_DOWN(im->sp - (words + s->environment + 1 + s->arguments + 1 + 1) * 8ull,
			UINT64_C(16));
	im->sp = at;
	error = error != 0 ? error : space_write(im->space, at, &argc, sizeof(argc));
	at += 8;
	error = error != 0 ? error : write_pointers(im, at, s->arguments, &string, &text);
	im->arguments_end = string;
	at += (s->arguments + 1) * 8ull;
	error = error != 0 ? error : write_pointers(im, at, s->environment, &string, &text);
	at += (s->environment + 1) * 8ull;
	return error != 0 ? error : space_write(im->space, at, aux, words * 8ull);
}

/* The point of no return has passed. */
static void enter(struct image *im, struct node *program, const char *name)
{
	struct thread *t = thread_current();
	struct process *p = t->process;
	struct space *old = p->space;
	const char *base = name;
	uint64_t flags;

	robust_end();
	flags = irq_save();
	p->space = im->space;
	space_switch(im->space);
	irq_restore(flags);
	if (old != NULL) {
		space_put(old);
	}
	process_release_vfork(p);
	tree_set_exe(p, program);
	p->brk_start = im->brk;
	p->brk = im->brk;
	p->arguments = im->arguments;
	p->arguments_end = im->arguments_end;
	fd_close_on_exec(p->files);
	signals_exec(&p->signals);
	for (const char *c = name; *c != '\0'; c++) {
		base = *c == '/' ? c + 1 : base;
	}
	thread_set_name(t, base);
	t->rseq = 0;
	t->alt_stack = (struct alt_stack){0};
	t->user.fs_base = 0;
	t->user.gs_base = 0;
	fpu_init_area(t->user.xsave);
	user_state_load(&t->user);
	user_frame_init(user_frame(t->stack_top), im->base + im->elf.entry, im->sp);
}

static int read_head(struct file *f, struct elf *elf)
{
	uint8_t *head = mem_alloc(ELF_HEADER_BYTES);
	int64_t len = -ENOMEM;

	if (head != NULL) {
		len = file_read_kernel(f, head, ELF_HEADER_BYTES, 0);
	}
	if (len >= 0) {
		len = elf_check(head, (size_t)len, f->ops->size(f), elf);
	}
	mem_free(head, ELF_HEADER_BYTES);
	return (int)len;
}

/* On the heap, for it is large. */
static int load(struct image *im, struct file *f, const char *name, struct exec_strings *s)
{
	int error = read_head(f, &im->elf);

	if (error != 0) {
		return error;
	}
	im->space = space_create();
	if (im->space == NULL) {
		return -ENOMEM;
	}
	error = map_program(im, f);
	if (error == 0) {
		error = map_stack(im);
	}
	if (error == 0) {
		error = build_stack(im, s, name);
	}
	if (error == 0) {
		error = process_end_others();
	}
	if (error != 0) {
		space_put(im->space);
	}
	return error;
}

int exec_program(struct node *program, const char *name, struct exec_strings *s)
{
	struct image *im;
	struct file *f;
	int error;

	if (program->mode != NODE_FILE || (program->permissions & 0111) == 0) {
		return -EACCES;
	}
	error = node_open(program, FILE_READONLY, &f);
	if (error != 0) {
		return error;
	}
	if (f->ops->map == NULL || f->ops->size == NULL) {
		file_put(f);
		return -EACCES;
	}
	im = mem_alloc(sizeof(*im));
	error = im != NULL ? load(im, f, name, s) : -ENOMEM;
	file_put(f);
	if (error == 0) {
		enter(im, program, name);
	}
	mem_free(im, sizeof(*im));
	return error;
}
