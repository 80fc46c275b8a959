/*
 * The annex (core/annex/annex.h): where it is in a process, and what it may ask for. All that comes
 * from it is hostile: each number is checked, each byte of the shared page is read once.
 */
#include "core/annex/annex.h"

#include <errno.h>
#include <string.h>

#include "core/hw/entry.h"
#include "core/kvm/internal.h"
#include "core/mem/object.h"
#include "core/mem/space.h"
#include "core/svm/svm.h"
#include "core/task/upcall.h"
#include "lib/kvm/emul.h"
#include "lib/kvm/emul_regs.h"
#include "lib/x86/regs.h"

#define MXCSR_AT    24 /* in the image of the x87 registers: it and its mask are not x87's */
#define MXCSR_BYTES 8

_Static_assert(sizeof(struct annex_page) <= PAGE_SIZE, "one page");
_Static_assert(ANNEX_AREA_BYTES == ANNEX_PAGE_AT + PAGE_SIZE, "the page is the last");

extern const uint8_t annex_image[], annex_image_end[]; /* annex/image.py */

/* ---- where it is ---- */

static uint64_t text_bytes(void)
{
	return (uint64_t)annex_image_end - (uint64_t)annex_image;
}

static int fill_text(void *ctx, uint64_t offset, void *page)
{
	(void)ctx;
	memcpy(page, annex_image + offset, MIN(text_bytes() - offset, PAGE_SIZE));
	return 0;
}

static int fill_area(void *ctx, uint64_t offset, void *page)
{
	(void)ctx;
	(void)page;
	return offset % ANNEX_AREA_BYTES == 0 ? -EFBIG : 0;
}

/* Each process has a copy of its own, as far as it is used. */
static int map_text(struct space *s)
{
	uint64_t bytes = ALIGN_UP(text_bytes(), PAGE_SIZE), ignored;
	struct object *o = object_create_filled(bytes, fill_text, NULL);
	uint8_t there[64];
	int r;

	if (o == NULL) {
		return -ENOMEM;
	}
	r = space_map(s, ANNEX_TEXT, bytes, SPACE_READ | SPACE_EXEC,
		      SPACE_SHARED | SPACE_FIXED | SPACE_NOREPLACE | SPACE_NOWRITE, o, 0, &ignored);
	object_put(o);
	/* By a VM before, perhaps of the parent. Whatever else it is, the process would suffer. */
	if (r == -EEXIST && space_read(s, there, ANNEX_TEXT, sizeof(there)) == 0 &&
	    memcmp(there, annex_image, sizeof(there)) == 0) {
		r = 0;
	}
	return r;
}

int annex_vm_init(struct vm_data *data, struct space *space, unsigned vcpus)
{
	int r = map_text(space);

	if (r != 0) {
		return r;
	}
	data->areas_bytes = (uint64_t)vcpus * ANNEX_AREA_BYTES;
	data->areas = object_create_filled(data->areas_bytes, fill_area, NULL);
	if (data->areas == NULL) {
		return -ENOMEM;
	}
	r = space_map(space, 0, data->areas_bytes, SPACE_READ | SPACE_WRITE, SPACE_SHARED,
		      data->areas, 0, &data->areas_at);
	if (r != 0) {
		object_put(data->areas);
		data->areas = NULL;
	}
	return r;
}

void annex_vm_fini(struct vm_data *data)
{
	/* Another process cannot reach it, and at the end of this one it goes anyway. */
	if (data->space == space_current()) {
		int ignored = space_unmap(data->space, data->areas_at, data->areas_bytes);

		(void)ignored; /* without memory for the cut it stays */
	}
	object_put(data->areas);
}

int annex_vcpu_init(struct vm_data *data, struct vcpu_thread *t, unsigned index)
{
	uint64_t at = (uint64_t)index * ANNEX_AREA_BYTES + ANNEX_PAGE_AT, bytes;
	hpa_t page;
	int r = object_page(data->areas, at, false, &page, &bytes);

	if (r == 0) {
		t->annex = phys_ptr(page);
		t->annex_at = data->areas_at + at;
	}
	return r;
}

void annex_vcpu_fini(struct vcpu_thread *t)
{
	page_put(phys_of(t->annex));
}

/* ---- what it asks for ---- */

struct run {
	struct upcall upcall;
	struct kvm_vcpu *vcpu;
	struct annex_page *page; /* ring 3 may write to it at any time */
	enum insn_outcome outcome;
};

static enum insn_outcome fetch(struct run *r)
{
	const struct kvm_exits *x = r->vcpu->exits;

	if (!kvm_emul_fetch(r->vcpu)) {
		return INSN_UNSUPPORTED;
	}
	memcpy(r->page->code, x->code, sizeof(x->code));
	r->page->code_bytes = x->code_bytes;
	return INSN_DONE;
}

static enum insn_outcome read(struct run *r, uint64_t linear, unsigned len, unsigned access)
{
	uint8_t data[ANNEX_DATA];
	enum insn_outcome outcome = kvm_emul_read(r->vcpu, linear, data, len, access);

	if (outcome == INSN_DONE) {
		memcpy(r->page->data, data, len);
	}
	return outcome;
}

static enum insn_outcome write(struct run *r, uint64_t linear, unsigned len, unsigned access)
{
	uint8_t data[ANNEX_DATA];

	memcpy(data, r->page->data, len);
	return kvm_emul_write(r->vcpu, linear, data, len, access);
}

static enum insn_outcome cmpxchg(struct run *r, uint64_t linear, unsigned len)
{
	uint8_t data[2 * 16];

	memcpy(data, r->page->data, 2 * (size_t)len);
	return kvm_emul_cmpxchg(r->vcpu, linear, data, data + len, len);
}

static enum insn_outcome memory(struct run *r, const struct user_frame *f)
{
	unsigned len = (unsigned)f->rsi;
	unsigned access = f->rdx & (INSN_ACCESS_WRITE | INSN_ACCESS_SYSTEM | KVM_ACCESS_OPERAND);

	if (f->rsi == 0 || f->rsi > ANNEX_DATA) {
		return INSN_UNSUPPORTED;
	}
	switch (f->orig_rax) {
	case ANNEX_READ:
		return read(r, f->rdi, len, access);
	case ANNEX_WRITE:
		return write(r, f->rdi, len, access);
	case ANNEX_PROBE:
		return kvm_emul_probe(r->vcpu, f->rdi, len);
	default:
		return len <= 16 && (len & (len - 1)) == 0 ? cmpxchg(r, f->rdi, len)
							   : INSN_UNSUPPORTED;
	}
}

static enum insn_outcome port(struct run *r, const struct user_frame *f)
{
	uint8_t data[ANNEX_DATA];
	uint16_t at = (uint16_t)f->rdi;
	unsigned bytes = (unsigned)f->rsi, count = (unsigned)f->rdx;
	enum insn_outcome outcome;

	if ((f->rsi != 1 && f->rsi != 2 && f->rsi != 4) || f->rdx == 0 ||
	    f->rdx > ANNEX_DATA / f->rsi) {
		return INSN_UNSUPPORTED;
	}
	if (f->orig_rax == ANNEX_PORT_OUT) {
		memcpy(data, r->page->data, (size_t)bytes * count);
		outcome = kvm_emul_port_out(r->vcpu, at, bytes, data, &count);
	} else {
		outcome = kvm_emul_port_in(r->vcpu, at, bytes, data, &count);
		if (outcome == INSN_DONE) {
			memcpy(r->page->data, data, (size_t)bytes * count);
		}
	}
	r->page->count = count;
	return outcome;
}

/* What the guest's registers have is in the CPU, and may go to memory when the thread does. */
static enum insn_outcome write_vector(struct run *r, const struct user_frame *f)
{
	uint8_t data[ANNEX_X87_BYTES];
	enum insn_outcome outcome;
	uint8_t *image;

	memcpy(data, r->page->data, sizeof(data));
	if (f->orig_rax == ANNEX_WRITE_XMM) {
		outcome = kvm_op_write_xmm(r->vcpu, (unsigned)MIN(f->rdi, UINT64_C(16)), data,
					   f->rsi != 0);
	} else {
		outcome = kvm_op_x87_image(r->vcpu, &image);
		memcpy(image, data, MXCSR_AT);
		memcpy(image + MXCSR_AT + MXCSR_BYTES, data + MXCSR_AT + MXCSR_BYTES,
		       sizeof(data) - MXCSR_AT - MXCSR_BYTES);
	}
	svm_fpu_commit(r->vcpu);
	return outcome;
}

static enum insn_outcome registers(struct run *r, const struct user_frame *f)
{
	unsigned reg = (unsigned)MIN(f->rdi, UINT64_C(16)); /* of which there is none */
	enum insn_outcome outcome;
	uint8_t data[16] = {0};
	uint64_t value = 0;
	uint8_t *image;

	switch (f->orig_rax) {
	case ANNEX_READ_XMM:
		outcome = kvm_op_read_xmm(r->vcpu, reg, data);
		memcpy(r->page->data, data, sizeof(data));
		return outcome;
	case ANNEX_READ_X87:
		outcome = kvm_op_x87_image(r->vcpu, &image);
		memcpy(r->page->data, image, ANNEX_X87_BYTES);
		svm_fpu_commit(r->vcpu);
		return outcome;
	case ANNEX_WRITE_XMM:
	case ANNEX_WRITE_X87:
		return write_vector(r, f);
	case ANNEX_WRITE_CR:
		return kvm_op_write_cr(r->vcpu, reg, f->rsi);
	case ANNEX_WRITE_DR:
		return kvm_op_write_dr(r->vcpu, reg, f->rsi);
	case ANNEX_READ_CR:
		outcome = kvm_op_read_cr(r->vcpu, reg, &value);
		break;
	case ANNEX_READ_DR:
		outcome = kvm_op_read_dr(r->vcpu, reg, &value);
		break;
	default:
		return INSN_UNSUPPORTED;
	}
	memcpy(r->page->data, &value, sizeof(value));
	return outcome;
}

static enum insn_outcome call(struct run *r, const struct user_frame *f)
{
	switch (f->orig_rax) {
	case ANNEX_FETCH:
		return fetch(r);
	case ANNEX_READ:
	case ANNEX_WRITE:
	case ANNEX_PROBE:
	case ANNEX_CMPXCHG:
		return memory(r, f);
	case ANNEX_PORT_IN:
	case ANNEX_PORT_OUT:
		return port(r, f);
	default:
		return registers(r, f);
	}
}

/* As by KVM_SET_REGS and KVM_SET_VCPU_EVENTS. Segments are none of an instruction's that it knows.
 */
static void end(struct run *r, uint64_t outcome)
{
	const volatile struct annex_page *page = r->page;
	struct kvm_vcpu *vcpu = r->vcpu;
	struct insn_fault *fault = &vcpu->exits->fault;

	if (outcome > INSN_UNSUPPORTED) {
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->cpu.gpr); i++) {
		vcpu->cpu.gpr[i] = page->cpu.gpr[i];
	}
	vcpu->cpu.rip = page->cpu.rip;
	vcpu->cpu.rflags = page->cpu.rflags | RFLAGS_FIXED;
	vcpu->cpu.interrupt_shadow = *(const volatile uint8_t *)&page->cpu.interrupt_shadow != 0;
	vcpu->cpu.trap_shadow = *(const volatile uint8_t *)&page->cpu.trap_shadow != 0;
	memcpy(&vcpu->exits->found, (const void *)&page->plain, sizeof(page->plain));
	fault->vector = page->fault.vector;
	fault->error = page->fault.error;
	fault->address = page->fault.address;
	if (outcome != INSN_FAULT || (fault->vector < 32 && fault->vector != 2)) {
		r->outcome = (enum insn_outcome)outcome;
	}
}

static bool serve(struct upcall *u, struct user_frame *f)
{
	struct run *r = container_of(u, struct run, upcall);

	if (f->orig_rax == ANNEX_END) {
		end(r, f->rdi);
		return false;
	}
	f->rax = call(r, f);
	if (f->rax == INSN_FAULT) {
		r->page->fault = r->vcpu->exits->fault;
	}
	return true;
}

enum insn_outcome env_emulate(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	const struct vcpu_thread *t = vcpu->env_data;
	struct kvm_exits *x = vcpu->exits;
	struct run r = {
		.upcall.serve = serve, .vcpu = vcpu, .page = t->annex, .outcome = INSN_UNSUPPORTED};

	(void)env;
	r.page->cpu = vcpu->cpu;
	r.page->plain.len = 0;
	r.page->amd = vcpu->features.amd;
	r.page->code_bytes = x->code_bytes;
	memcpy(r.page->code, x->code, sizeof(x->code));
	x->broken = upcall_run(&r.upcall, ANNEX_TEXT, t->annex_at, t->annex_at) != UPCALL_DONE;
	return r.outcome;
}
