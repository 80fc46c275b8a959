/*
 * A guest without an operating system that does all it can to its machine: random accesses to
 * ports, registers and configuration space, BARs on top of each other, interrupts from everywhere
 * to anywhere, queues of garbage under devices that run. It survives what comes back, goes on for
 * ever, and tells on COM1 how far it is. tests/system/hostile.py builds and drives it.
 *
 * Words of its command line:
 *   seed=N   decides all it does (but for the time it takes)
 *   end      after a while it also writes to what ends a machine
 *
 * A 32-bit ELF file with a PVH entry; no paging, so that all of the first 4 GiB is at hand.
 *
 *	0x0070000  real-mode code for the second CPU
 *	0x1000000  the queues' areas, a slot each
 *	0x2000000  buffers, to 0x3000000
 *	0xf000000  this program: its page numbers are not what other things happen to be as numbers,
 *		   so that the balloon seldom takes it away
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMI_CODE    0x38000
#define TRAMPOLINE  0x70000
#define SLOTS	    0x1000000
#define SLOT_BYTES  0x10000
#define BUFFERS	    0x2000000
#define BUFFERS_LEN 0x1000000

#define ECAM   0xb0000000
#define IOAPIC 0xfec00000
#define LAPIC  0xfee00000

#define LAPIC_EOI   0xb0
#define LAPIC_SVR   0xf0
#define LAPIC_ICR   0x300
#define LAPIC_LINT0 0x350

#define COM1	0x3f8
#define PM1_CNT 0x604
#define FW_CFG	0x510
#define PVPANIC 0x505
#define RESET	0xcf9
#define I8042	0x64
#define PORT_92 0x92

#define STACK_BYTES 0x4000 /* and the alignment of stacks: self() needs it */
#define CPUS	    2
#define DEVICES_MAX 30

/* ---- entry, interrupts, the second CPU ---- */

__asm__(".section .note.pvh, \"a\", @note\n"
	"	.long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
	"	.asciz \"Xen\"\n"
	"	.long entry\n"
	".text\n"
	".globl entry\n"
	"entry:\n"
	"	cld\n"
	"	movl $stacks + 0x3ff0, %esp\n"
	"	pushl %ebx\n"
	"	lgdt gdt_pointer\n"
	"	ljmp $0x10, $1f\n"
	"1:	movl $0x18, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	movl %eax, %ss\n"
	"	call boot\n"
	"	jmp resume\n"
	/* The second CPU: as the first, from real mode. */
	"	.code16\n"
	"trampoline:\n"
	"	cli\n"
	"	movw $0x7000, %ax\n"
	"	movw %ax, %ds\n"
	"	lgdtl gdt_pointer_low - trampoline\n"
	"	movl %cr0, %eax\n"
	"	orb $1, %al\n"
	"	movl %eax, %cr0\n"
	"	ljmpl $0x10, $second\n"
	"gdt_pointer_low:\n"
	"	.word 31\n"
	"	.long gdt\n"
	"trampoline_end:\n"
	"	.code32\n"
	"second:\n"
	"	movl $0x18, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	movl %eax, %ss\n"
	"	movl $stacks + 0x7ff0, %esp\n"
	"	call boot_second\n"
	/* Goes on after an exception, wherever that was; by IRET, which opens NMIs again. */
	"resume:\n"
	"	orl $0x3fff, %esp\n"
	"	subl $15, %esp\n"
	"	pushl $2\n"
	"	pushl $0x10\n"
	"	pushl $1f\n"
	"	iret\n"
	"1:	call run\n"
	"exception:\n"
	"	jmp resume\n"
	/* One interrupt at a time: it returns with interrupts off. */
	"interrupt:\n"
	"	pushal\n"
	"	call interrupted\n"
	"	popal\n"
	"	andl $~0x200, 8(%esp)\n"
	"	iret\n"
	".data\n"
	"	.balign 16\n"
	"gdt:	.quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
	"gdt_pointer:\n"
	"	.word 31\n"
	"	.long gdt\n"
	".bss\n"
	"	.balign 0x4000\n"
	"stacks:	.skip 0x8000\n"
	".text\n");

extern const uint8_t trampoline[], trampoline_end[], exception[], interrupt[];

/* At the lower end of each CPU's stack. */
struct cpu {
	uint32_t random;
	uint32_t index;
	uint32_t steps;
};

static struct cpu *self(void)
{
	return (struct cpu *)((uintptr_t)__builtin_frame_address(0) &
			      ~(uintptr_t)(STACK_BYTES - 1));
}

/* ---- small things ---- */

static uint32_t rnd(void)
{
	struct cpu *c = self();

	c->random ^= c->random << 13;
	c->random ^= c->random >> 17;
	c->random ^= c->random << 5;
	return c->random;
}

static uint32_t below(uint32_t n)
{
	return rnd() % n;
}

static bool chance(uint32_t n)
{
	return below(n) == 0;
}

/* Numbers as mistakes have them: small, near powers of two, or anything. */
static uint32_t number(void)
{
	switch (below(6)) {
	case 0:
		return below(16);
	case 1:
		return (1u << below(32)) - below(3);
	case 2:
		return below(0x10000);
	case 3:
		return 0xffffffff;
	default:
		return rnd();
	}
}

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t in(uint16_t port, unsigned len)
{
	uint32_t value = 0;

	if (len == 1) {
		__asm__ volatile("inb %1, %b0" : "+a"(value) : "Nd"(port));
	} else if (len == 2) {
		__asm__ volatile("inw %1, %w0" : "+a"(value) : "Nd"(port));
	} else {
		__asm__ volatile("inl %1, %0" : "+a"(value) : "Nd"(port));
	}
	return value;
}

static void store(uint32_t addr, unsigned len, uint32_t value)
{
	if (len == 1) {
		*(volatile uint8_t *)addr = (uint8_t)value;
	} else if (len == 2) {
		*(volatile uint16_t *)addr = (uint16_t)value;
	} else {
		*(volatile uint32_t *)addr = value;
	}
}

static uint32_t load(uint32_t addr, unsigned len)
{
	return len == 1	  ? *(volatile uint8_t *)addr
	       : len == 2 ? *(volatile uint16_t *)addr
			  : *(volatile uint32_t *)addr;
}

/* A register of 8 bytes in one access. */
static void store_wide(uint32_t addr, uint32_t low, uint32_t high)
{
	uint64_t value = low | (uint64_t)high << 32;

	__asm__ volatile("movq %1, %%mm0\n"
			 "movq %%mm0, (%0)\n"
			 "emms"
			 :
			 : "r"(addr), "m"(value)
			 : "memory");
}

static void load_wide(uint32_t addr)
{
	__asm__ volatile("movq (%0), %%mm0\n"
			 "emms"
			 :
			 : "r"(addr)
			 : "memory");
}

/* ---- what it tells ---- */

static void say_char(char c)
{
	for (unsigned i = 0; i < 100000 && (in(COM1 + 5, 1) & 0x20) == 0; i++) {
	}
	out8(COM1, (uint8_t)c);
}

static void say(const char *text)
{
	for (; *text != '\0'; text++) {
		say_char(*text);
	}
}

static void say_number(uint32_t n)
{
	char digits[11];
	unsigned i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	say(digits + i);
}

/* A line of its own, whatever was done to the port before. */
static void say_line(const char *text, uint32_t n, const char *unit)
{
	out8(COM1 + 3, 0);
	out8(COM1 + 1, 0);
	out8(COM1 + 4, 0);
	say("\r\nhostile: ");
	say(text);
	say_number(n);
	say(unit);
	say("\r\n");
}

/* ---- the machine ---- */

#define QUEUES_MAX 8 /* that have a place of their own */

/* Of a packed ring. */
struct position {
	uint16_t next;
	bool wrap;
};

struct device {
	uint32_t config; /* its configuration space, in the ECAM window */
	uint32_t type;	 /* virtio device ID */
	uint32_t bar, msix, nqueues;
	uint32_t moved; /* where the BAR may be too */
	bool packed;
	bool wild; /* breaks rings' rules too, and is stopped soon */
	uint32_t size;
	struct position position[QUEUES_MAX];
};

static struct device devices[DEVICES_MAX];
static uint32_t ndevices;
static uint32_t seed = 1;
static bool ending;

/* A device of the bus; never called before there is one. */
static struct device *any_device(void)
{
	return &devices[below(ndevices)];
}

/* The data of a message: an INIT or SMI would end the CPU, and with it the run. */
static uint32_t harmless(uint32_t value)
{
	uint32_t mode = value & 0x700;

	return mode == 0x500 || mode == 0x200 ? value & ~0x700u : value;
}

/* ---- noise: ports ---- */

/* Would writing @len bytes at @port end the machine? */
static bool ends(uint32_t port, unsigned len)
{
	static const uint16_t ports[] = {I8042, PORT_92, RESET, PM1_CNT, PM1_CNT + 1, PVPANIC};

	for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		if (port <= ports[i] && ports[i] < port + len) {
			return true;
		}
	}
	return false;
}

static uint16_t any_port(void)
{
	static const struct {
		uint16_t first, len;
	} known[] = {
		{0x20, 2},     {0xa0, 2},  {0x4d0, 2}, {0x40, 4},  {0x60, 5},  {0x70, 4},
		{0x80, 1},     {0x92, 1},  {0x2f8, 8}, {0x3f8, 8}, {0x402, 1}, {0x510, 12},
		{0x600, 0x80}, {0xcf8, 8}, {0xb2, 2},  {0x1f0, 8}, {0x505, 1},
	};
	unsigned i = below(sizeof(known) / sizeof(known[0]) + 1);

	if (i == sizeof(known) / sizeof(known[0])) {
		return (uint16_t)rnd();
	}
	return (uint16_t)(known[i].first + below(known[i].len));
}

static void port_noise(void)
{
	uint16_t port = any_port();
	unsigned len = 1u << below(3);
	uint32_t value = number();

	if (chance(2)) {
		(void)in(port, len);
	} else if (!ends(port, len)) {
		if (len == 1) {
			out8(port, (uint8_t)value);
		} else if (len == 2) {
			out16(port, (uint16_t)value);
		} else {
			out32(port, value);
		}
	}
}

/* Many items in one exit. */
static void string_noise(void)
{
	uint16_t port = any_port();
	uint32_t addr = BUFFERS + below(BUFFERS_LEN - 0x10000);
	uint32_t count = chance(16) ? below(0x2000) : below(64);

	if (chance(2)) {
		__asm__ volatile("rep insb" : "+D"(addr), "+c"(count) : "d"(port) : "memory");
	} else if (!ends(port, 4)) {
		__asm__ volatile("rep outsl" : "+S"(addr), "+c"(count) : "d"(port) : "memory");
	}
}

/* ---- noise: memory-mapped registers ---- */

static void touch(uint32_t addr)
{
	unsigned len = 1u << below(4);

	if (chance(3)) {
		if (len == 8) {
			load_wide(addr);
		} else {
			(void)load(addr, len);
		}
	} else if (len == 8) {
		store_wide(addr, harmless(number()), number());
	} else {
		store(addr, len, harmless(number()));
	}
}

static void register_noise(void)
{
	static const uint16_t parts[] = {0, 0x1000, 0x2000, 0x3000};
	struct device *d = any_device();
	uint32_t base = d->moved != 0 && chance(4) ? d->moved : d->bar;
	uint32_t offset;

	switch (below(4)) {
	case 0:
		offset = below(0x4000);
		break;
	case 1:
		offset = 0x4000 - below(9); /* over the end */
		break;
	default:
		offset = parts[below(4)] + below(64);
	}
	touch(chance(4) ? d->msix + below(0x1004) : base + offset);
}

static void ioapic_noise(void)
{
	if (chance(4)) {
		touch(IOAPIC + below(0x1000));
		return;
	}
	store(IOAPIC, 4, chance(8) ? rnd() : 0x10 + below(48));
	store(IOAPIC + 0x10, 4, harmless(chance(4) ? number() : below(0x20000)));
}

/* ---- noise: configuration space ---- */

static void config_noise(void)
{
	uint32_t function = chance(4) ? below(256) << 12 : any_device()->config - ECAM;
	uint32_t reg = chance(16) ? below(0x1000) : below(256);
	unsigned len = 1u << below(3);

	if (chance(2)) {
		touch(ECAM + (function | reg));
		return;
	}
	out32(0xcf8, 0x80000000 | function >> 4 | (reg & 0xfc));
	if (chance(2)) {
		(void)in((uint16_t)(0xcfc + (reg & 3)), len);
	} else if (len == 1) {
		out8((uint16_t)(0xcfc + (reg & 3)), (uint8_t)number());
	} else {
		out32(0xcfc, number());
	}
}

static void put_bars(const struct device *d, uint32_t bar, uint32_t high, uint32_t msix)
{
	store(d->config + 0x20, 4, bar);
	store(d->config + 0x24, 4, high);
	store(d->config + 0x14, 4, msix);
}

/* On top of something, beyond everything, or off. */
static void move_bars(void)
{
	struct device *d = any_device();
	const uint32_t places[] = {
		any_device()->bar, any_device()->msix, ECAM,	IOAPIC,		 LAPIC,
		BUFFERS,	   0xf000000,	       0,	0xffffc000,	 0xc0000000,
		0xfebfc000,	   0xc1000000,	       0xa0000, rnd() & ~0x3fff,
	};
	uint32_t place = places[below(sizeof(places) / sizeof(places[0]))];

	if (chance(4)) {
		store(d->config + 4, 2, number());
	}
	put_bars(d, place, chance(4) ? number() : 0, chance(2) ? d->msix : places[below(14)]);
	/* Neither into this program nor into the local APIC, which is not what is to be tested. */
	d->moved = place == BUFFERS || (place >= ECAM && place >> 20 != LAPIC >> 20) ? place : 0;
}

/* As it was at the start, so that what comes next reaches the device. */
static void restore(struct device *d)
{
	put_bars(d, d->bar, 0, d->msix);
	d->moved = 0;
	store(d->config + 4, 2, chance(8) ? 0x402 : 6);
}

/* A MSI-X table that leads to this machine's CPUs, or anywhere. */
static void set_vectors(struct device *d)
{
	for (unsigned i = 0; i <= d->nqueues; i++) {
		uint32_t at = d->msix + 16 * i;

		/* Masked meanwhile: each change of an open one takes KVM milliseconds. */
		store(at + 12, 4, 1);
		store(at, 4, chance(8) ? number() : 0xfee00000 | below(CPUS) << 12);
		store(at + 4, 4, chance(16) ? number() : 0);
		store(at + 8, 4, harmless(chance(8) ? number() : 32 + below(224)));
		store(at + 12, 4, chance(4) ? number() : 0);
	}
	/* The capability is the last that build_function() adds. */
	for (uint32_t cap = load(d->config + 0x34, 1), n = 0; cap != 0 && n < 48; n++) {
		if (load(d->config + cap, 1) == 0x11) {
			store(d->config + cap + 2, 2, chance(8) ? number() : 0x8000);
		}
		cap = load(d->config + cap + 1, 1);
	}
}

/* ---- queues ---- */

static uint32_t slot(const struct device *d, unsigned queue)
{
	return SLOTS + ((uint32_t)(d - devices) * QUEUES_MAX + queue % QUEUES_MAX) * SLOT_BYTES;
}

#define DESC   0x0000
#define DRIVER 0x4000
#define DEVICE 0x8000

/* Where a request's bytes may be. */
static uint64_t any_address(void)
{
	switch (below(32)) {
	case 0:
		return (uint64_t)number() << 32 | number() | SLOTS;
	case 1:
		return number() | SLOTS; /* not into this program */
	case 2:
		return LAPIC;
	case 3:
		return SLOTS + below(0x800000); /* into the rings themselves */
	default:
		return BUFFERS + below(BUFFERS_LEN - 0x20000);
	}
}

static uint32_t any_length(void)
{
	switch (below(16)) {
	case 0:
		return number();
	case 1:
		return below(0x20000);
	default:
		return below(4) == 0 ? 1 + below(64) : 1u << below(13);
	}
}

/* The first bytes of a request for a device of this type. */
static void put_header(const struct device *d, uint32_t at)
{
	volatile uint32_t *w = (volatile uint32_t *)at;

	switch (d->type) {
	case 1: /* net: a header that asks for offloads; or a control command */
		w[0] = chance(2) ? below(6) | below(8) << 8 | below(80) << 16 : rnd();
		w[1] = chance(2) ? below(2000) | 34u << 16 : rnd();
		w[2] = chance(2) ? below(40) : rnd();
		w[3] = 0xffffffff;
		break;
	case 2: /* block: type, priority, sector */
		w[0] = chance(16) ? number() : (uint32_t[]){0, 1, 4, 8, 11, 13}[below(6)];
		w[1] = 0;
		w[2] = chance(8) ? number() : below(0x8000);
		w[3] = chance(32) ? number() : 0;
		w[4] = chance(4) ? number() : below(0x8000); /* ranges */
		w[5] = 0;
		w[6] = chance(4) ? number() : below(64);
		w[7] = below(2);
		break;
	case 5: /* balloon: page numbers, of the buffers mostly */
		for (unsigned i = 0; i < 64; i++) {
			w[i] = chance(64) ? number() | 0x10000 : (BUFFERS >> 12) + below(0x1000);
		}
		break;
	case 19: /* socket: CIDs, ports, length, type and operation */
		w[0] = chance(16) ? number() : 3;
		w[1] = 0;
		w[2] = chance(16) ? number() : 2;
		w[3] = 0;
		w[4] = below(4);
		w[5] = chance(2) ? 5000 + below(4) : 1u << 30 | below(4);
		w[6] = chance(8) ? number() : below(256);
		w[7] = 1 | (1 + below(chance(8) ? 12 : 7)) << 16;
		w[8] = below(4);
		w[9] = chance(4) ? number() : 0x10000;
		w[10] = chance(4) ? number() : 0;
		break;
	default:
		w[0] = number();
	}
}

/* Writes one descriptor; what makes it available in a packed ring comes last. */
static void put_words(uint32_t at, uint64_t addr, uint32_t len, uint32_t last)
{
	volatile uint32_t *w = (volatile uint32_t *)at;

	w[0] = (uint32_t)addr;
	w[1] = (uint32_t)(addr >> 32);
	w[2] = len;
	w[3] = last;
}

static void put_descriptor(const struct device *d, uint32_t at, unsigned index, bool in)
{
	uint64_t addr = any_address();
	uint32_t flags = (chance(3) ? 0 : 1u) | (in != chance(16) ? 2u : 0) | (chance(16) ? 4u : 0);
	uint32_t len = (flags & 4) != 0 ? 16 * below(20) : any_length();

	if (chance(32)) {
		flags = rnd() & 0xffff;
	}
	if ((flags & 3) <= 1 && addr >= BUFFERS && addr < BUFFERS + BUFFERS_LEN) {
		addr &= ~(uint64_t)3;
		put_header(d, (uint32_t)addr);
	}
	if (d->packed) {
		/* Available in one lap or the other. */
		flags |= chance(2) ? 0x80 : 0x8000;
		put_words(at + 16 * index, addr, len, below(256) | flags << 16);
	} else {
		put_words(at + 16 * index, addr, len,
			  flags | (chance(16) ? rnd() : index + 1) << 16);
	}
}

/* How many buffers of a request the device reads, if it is as it should be; the rest it writes. */
static unsigned readable(const struct device *d, unsigned queue, unsigned n)
{
	switch (d->type) {
	case 1:
		return queue + 1 == d->nqueues ? n - 1 : (queue & 1) != 0 ? n : 0;
	case 2:
		return chance(2) ? 1 : n - 1;
	case 3:
		return queue == 1 ? n : 0;
	case 5:
		return queue < 3 ? n : 0;
	case 19:
		return queue == 1 ? n : 0;
	default:
		return 0;
	}
}

static uint32_t good_length(const struct device *d, unsigned i, unsigned n)
{
	if (d->type == 2) {
		return i == 0 ? (n == 2 ? 32 : 16) : i + 1 == n ? 1 : 512 * (1 + below(16));
	}
	if (d->type == 19 && i == 0) {
		return 44 + below(300);
	}
	return chance(4) ? 1 + below(64) : 64 + below(3000);
}

/* A request that keeps to the rules, whatever is in it. */
static void put_request(const struct device *d, unsigned queue, uint32_t at, unsigned first,
			unsigned n, bool indirect)
{
	unsigned out = readable(d, queue, n);

	for (unsigned i = 0; i < n; i++) {
		uint32_t addr = BUFFERS + (below(BUFFERS_LEN - 0x20000) & ~3u);
		uint32_t flags = (i + 1 < n ? 1u : 0) | (i >= out ? 2u : 0);
		unsigned index = indirect ? i : (first + i) % d->size;

		if (i == 0 && out > 0) {
			put_header(d, addr);
		}
		put_words(at + 16 * index, addr, good_length(d, i, n), flags | (index + 1) << 16);
	}
}

/* Makes the @n descriptors at the ring's position available, the first one last. */
static void offer_packed(struct device *d, unsigned queue, unsigned n)
{
	uint32_t at = slot(d, queue);
	struct position *p = &d->position[queue % QUEUES_MAX];
	uint32_t first = p->next;
	bool first_wrap = p->wrap;

	for (unsigned i = 0; i < n; i++) {
		volatile uint16_t *w = (volatile uint16_t *)(at + 16 * p->next + 12);
		uint16_t flags = (uint16_t)((w[1] & 7) | (p->wrap ? 0x80 : 0x8000));

		w[0] = (uint16_t)below(256);
		if (i > 0) {
			w[1] = flags;
		}
		p->next = (uint16_t)(p->next + 1);
		if (p->next >= d->size) {
			p->next = 0;
			p->wrap = !p->wrap;
		}
	}

	volatile uint16_t *w = (volatile uint16_t *)(at + 16 * first + 12);

	w[1] = (uint16_t)((w[1] & 7) | (first_wrap ? 0x80 : 0x8000));
}

static void offer_split(struct device *d, unsigned queue, unsigned first)
{
	volatile uint16_t *avail = (volatile uint16_t *)(slot(d, queue) + DRIVER);
	uint16_t idx = avail[1];

	avail[2 + idx % d->size] = (uint16_t)(d->wild && chance(32) ? rnd() : first);
	avail[0] = chance(4) ? 1 : 0;
	avail[1] = (uint16_t)(idx + (d->wild && chance(64) ? rnd() : 1));
}

static void ring(const struct device *d, unsigned queue)
{
	store(d->bar + 0x3000 + 4 * queue, 2, queue);
}

/* A request, as it should be or not. */
static void fill(struct device *d)
{
	unsigned queue = below(d->nqueues);
	uint32_t at = slot(d, queue);
	unsigned n = (d->type == 2 ? 2 : 1) + below(5);
	bool indirect = chance(4);
	uint32_t table = indirect ? BUFFERS + (below(BUFFERS_LEN - 0x20000) & ~15u) : at;
	unsigned first = d->packed ? d->position[queue % QUEUES_MAX].next : below(d->size);

	if (!d->wild) {
		put_request(d, queue, table, first, n, indirect);
	} else {
		unsigned turn = below(n + 1);

		for (unsigned i = 0; i < n; i++) {
			put_descriptor(d, table, indirect ? i : (first + i) % d->size, i >= turn);
		}
	}
	if (indirect) {
		put_words(at + 16 * first, table, 16 * n, 4 | (d->packed ? 0 : first << 16));
		if (d->packed) {
			*(volatile uint16_t *)(at + 16 * first + 14) = 4;
		}
	} else if (d->packed && !d->wild) {
		/* Flags are in the upper half there. */
		for (unsigned i = 0; i < n; i++) {
			volatile uint16_t *w =
				(volatile uint16_t *)(at + 16 * ((first + i) % d->size) + 12);

			w[1] = w[0] & 7;
		}
	}
	if (d->packed) {
		offer_packed(d, queue, indirect ? 1 : n);
	} else {
		offer_split(d, queue, first);
	}
	if (chance(3)) {
		ring(d, queue);
	}
}

/* Rings, and lets the ring run ahead, as fast as it can. */
static void storm(struct device *d)
{
	unsigned queue = below(d->nqueues);
	volatile uint16_t *avail = (volatile uint16_t *)(slot(d, queue) + DRIVER);

	for (unsigned i = below(300); i > 0; i--) {
		avail[1] = (uint16_t)(avail[1] + (d->wild && !d->packed ? i & 1 : 0));
		ring(d, queue);
	}
}

static void corrupt(struct device *d)
{
	static const uint16_t areas[] = {DESC, DRIVER, DEVICE};
	uint32_t at = slot(d, below(d->nqueues)) + areas[below(3)];

	for (unsigned i = below(32); i > 0; i--) {
		uint32_t offset = below(0x1000) & ~3u;

		store(at + offset, 4, offset % 16 == 0 ? number() | SLOTS : number());
	}
}

/* Negotiates, sets queues up and starts the device; mostly as it should be. */
static void start(struct device *d)
{
	uint32_t bar = d->bar;
	bool packed = chance(2);

	restore(d);
	if (chance(4)) {
		set_vectors(d);
	}
	store(bar + 0x14, 1, 0);
	for (unsigned i = 0; i < 1000 && load(bar + 0x14, 1) != 0; i++) {
	}
	d->packed = packed;
	d->wild = chance(3);
	d->size = 64u << below(2);
	for (unsigned i = 0; i < QUEUES_MAX; i++) {
		d->position[i] = (struct position){0, true};
	}
	store(bar + 0x14, 1, 3);
	for (unsigned half = 0; half < 2; half++) {
		store(bar, 4, half);
		uint32_t offered = load(bar + 4, 4);

		store(bar + 8, 4, half);
		if (half == 1) {
			offered = packed ? offered : offered & ~4u; /* RING_PACKED */
		} else if (chance(2)) {
			offered &= rnd() | 1u << 28; /* INDIRECT_DESC */
		}
		store(bar + 12, 4, d->wild && chance(64) ? number() : offered);
	}
	store(bar + 0x14, 1, 11);
	store(bar + 0x10, 2, below(d->nqueues + 1));
	for (unsigned queue = 0; queue < d->nqueues; queue++) {
		uint32_t at = slot(d, queue);

		for (unsigned i = 0; i < 0xc000; i += 4) {
			*(volatile uint32_t *)(at + i) = 0;
		}
		store(bar + 0x16, 2, queue);
		store(bar + 0x18, 2, d->wild && chance(16) ? number() : d->size);
		store(bar + 0x1a, 2, chance(16) ? number() : below(d->nqueues + 1));
		store(bar + 0x20, 4, d->wild && chance(64) ? number() : at + DESC);
		store(bar + 0x24, 4, d->wild && chance(128) ? number() : 0);
		store(bar + 0x28, 4, d->wild && chance(64) ? number() : at + DRIVER);
		store(bar + 0x2c, 4, 0);
		store(bar + 0x30, 4, d->wild && chance(64) ? number() : at + DEVICE);
		store(bar + 0x34, 4, 0);
		if (!d->wild || !chance(16)) {
			store(bar + 0x1c, 2, 1);
		}
	}
	store(bar + 0x14, 1, 15);
}

/* ---- other devices ---- */

static uint32_t swap(uint32_t v)
{
	return __builtin_bswap32(v);
}

static void firmware_dma(void)
{
	volatile uint32_t *request = (volatile uint32_t *)(BUFFERS + (below(0x100000) & ~3u));
	uint32_t keys[] = {0, 1, 3, 5, 0x19, 0x20, 0x21, rnd()};

	request[0] = swap(keys[below(8)] << 16 | 8 | (chance(8) ? rnd() & 0xffff : 2));
	request[1] = swap(chance(4) ? number() : below(0x1000));
	request[2] = swap(chance(16) ? number() : 0);
	request[3] = swap(chance(16) ? number() | 0x800000 : BUFFERS + below(0x800000));
	out32(FW_CFG + 4, chance(16) ? number() : 0);
	out32(FW_CFG + 8, swap(chance(16) ? number() : (uint32_t)request));
}

/* Lets one interrupt in. */
static void window(void)
{
	__asm__ volatile("sti\n"
			 "nop\n"
			 "cli");
	if (chance(4)) {
		store(LAPIC + LAPIC_EOI, 4, 0);
	}
}

__attribute__((used)) void interrupted(void);
void interrupted(void)
{
	if (!chance(8)) {
		store(LAPIC + LAPIC_EOI, 4, 0);
	}
	if (chance(2)) {
		out8(0x20, 0x20);
		out8(0xa0, 0x20);
	}
}

static void end_noise(void)
{
	static const uint16_t ports[] = {I8042, PORT_92, RESET, PM1_CNT, PM1_CNT + 1, PVPANIC};

	out8(ports[below(6)], (uint8_t)number());
}

/* ---- all of it ---- */

static void step(void)
{
	struct device *d = any_device();

	switch (below(32)) {
	case 0:
	case 1:
	case 2:
		port_noise();
		break;
	case 3:
		if (chance(16)) {
			string_noise();
		}
		break;
	case 4:
	case 5:
		register_noise();
		break;
	case 6:
		config_noise();
		break;
	case 7:
		if (chance(4)) {
			move_bars();
		}
		break;
	case 8:
		restore(d);
		break;
	case 9:
		ioapic_noise();
		break;
	case 10:
		firmware_dma();
		break;
	case 11:
		if (d->wild && chance(8)) {
			corrupt(d);
		}
		break;
	case 12:
		if (chance(8)) {
			storm(d);
		}
		break;
	case 13:
		if (chance(4)) {
			start(d);
		}
		break;
	case 14:
	case 15:
		window();
		break;
	case 16:
		if (ending && self()->steps > 4000) {
			end_noise();
		}
		break;
	default:
		fill(d);
	}
}

__attribute__((used)) void run(void);
void run(void)
{
	struct cpu *c = self();

	for (;;) {
		if (c->index == 0 && c->steps % 0x800 == 0) {
			say_line("", c->steps, " steps");
		}
		c->steps++;
		step();
	}
}

/* ---- start ---- */

static void find_devices(void)
{
	for (uint32_t slot = 0; slot < 32 && ndevices < DEVICES_MAX; slot++) {
		uint32_t config = ECAM + (slot << 15);
		uint32_t id = load(config, 4);

		if ((id & 0xffff) == 0x1af4 && id >> 16 > 0x1040) {
			struct device *d = &devices[ndevices++];

			d->config = config;
			d->type = (id >> 16) - 0x1040;
			d->bar = load(config + 0x20, 4) & ~15u;
			d->msix = load(config + 0x14, 4) & ~15u;
			d->nqueues = load(d->bar + 0x12, 2);
			d->size = 64;
		}
	}
}

static bool word_at(const char *at, const char *word)
{
	while (*word != '\0' && *at == *word) {
		at++;
		word++;
	}
	return *word == '\0';
}

static void parse(const char *line)
{
	for (; *line != '\0'; line++) {
		if (word_at(line, "seed=")) {
			seed = 0;
			for (const char *p = line + 5; *p >= '0' && *p <= '9'; p++) {
				seed = seed * 10 + (uint32_t)(*p - '0');
			}
		}
		ending = ending || word_at(line, "end");
	}
}

static struct {
	uint16_t offset_low, selector, type, offset_high;
} idt[256];

static void prepare(unsigned index)
{
	struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint32_t)idt};
	struct cpu *c = self();

	__asm__ volatile("lidt %0" : : "m"(pointer));
	c->index = index;
	c->random = (seed * 2654435761u + index * 40503u) | 1;
	store(LAPIC + LAPIC_SVR, 4, 0x1ff);
	store(LAPIC + LAPIC_LINT0, 4, 0x700); /* the PIC's interrupts, on the first CPU */
}

__attribute__((used)) void boot_second(void);
void boot_second(void)
{
	prepare(1);
}

static void start_second(void)
{
	for (unsigned i = 0; i < (unsigned)(trampoline_end - trampoline); i++) {
		((volatile uint8_t *)TRAMPOLINE)[i] = trampoline[i];
	}
	store(LAPIC + LAPIC_ICR + 0x10, 4, 1u << 24);
	store(LAPIC + LAPIC_ICR, 4, 0x4500);
	store(LAPIC + LAPIC_ICR, 4, 0x4600 | TRAMPOLINE >> 12);
}

/* @info: where PVH's start information is; its command line is at byte 24. */
__attribute__((used)) void boot(uint32_t info);
void boot(uint32_t info)
{
	parse((const char *)load(info + 24, 4));
	for (unsigned i = 0; i < 256; i++) {
		uint32_t to = (uint32_t)(i < 32 ? exception : interrupt);

		idt[i].offset_low = (uint16_t)to;
		idt[i].selector = 0x10;
		idt[i].type = 0x8e00;
		idt[i].offset_high = (uint16_t)(to >> 16);
	}
	find_devices();
	say_line("seed ", seed, "");
	say_line("", ndevices, " devices");
	prepare(0);
	start_second();
}
