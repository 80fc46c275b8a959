#include "soft/translate/image.h"

#include "lib/kvm/registers.h"
#include "soft/access.h"
#include "soft/translate/fast.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE_MASK UINT64_C(4095)
#define FSW_ES	  BIT(7)

/* x87, SSE, AVX and PKRU, whose place depends on those before it. */
#define COMPONENTS UINT64_C(0x207)

#define AT_XCOMP_BV 520
#define HEADER_END  576
#define COMPACT	    BIT(63)
#define AVX	    BIT(2)
#define AVX_BYTES   256

/* The host's address of an image, if all of it is together there. */
static uint8_t *image_at(struct soft_vcpu *vcpu, uint64_t linear, bool write)
{
	uint64_t page = st_fast_page(vcpu, linear, write);

	if (linear % 64 != 0 || page == 0 ||
	    ((linear & PAGE_MASK) + SOFT_NATIVE_IMAGE > 4096 &&
	     st_fast_page(vcpu, (linear & ~PAGE_MASK) + 4096, write) != page + 4096)) {
		return NULL;
	}
	return (uint8_t *)(uintptr_t)(page | (linear & PAGE_MASK));
}

/* The guest's x87 and vector registers come to the host's, as by common.c. */
static void load_fpu(struct st_frame *f)
{
	if (f->fpu == 0) {
		__asm__ volatile("fnstcw %0\n\tstmxcsr %1"
				 : "=m"(f->host_fcw), "=m"(f->host_mxcsr));
		__asm__ volatile("xrstor64 (%0)"
				 :
				 : "r"(f->xsave), "a"((uint32_t)f->xsave_mask),
				   "d"((uint32_t)(f->xsave_mask >> 32))
				 : "memory");
		f->fpu = 1;
	}
}

/* XSTATE_BV and XCOMP_BV of an image. */
struct header {
	uint64_t present, form;
};

static bool header_easy(const uint8_t *area, uint64_t xcr0, bool supervisor, struct header *h)
{
	if (soft_access_load8(&h->present, area + KVM_AT_XSTATE_BV) != 0 ||
	    soft_access_load8(&h->form, area + AT_XCOMP_BV) != 0 || (h->present & ~xcr0) != 0 ||
	    (h->form & ~(xcr0 | COMPACT)) != 0) {
		return false;
	}
	return (h->form & COMPACT) != 0 ? (h->present & ~h->form) == 0
					: h->form == 0 && !supervisor;
}

/* Would the guest see where an x87 instruction was executed, or on what? x87.h */
static bool has_places(const struct st_translator *t)
{
	uint32_t low, high;
	uint16_t status;

	if (t->x87_saved) {
		__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
		return (low & 1) != 0; /* not as FNINIT leaves it */
	}
	__asm__ volatile("fnstsw %0" : "=m"(status));
	return (status & FSW_ES) != 0;
}

/* Of an image that has been loaded, with the components @present. Return: 0 or -EFAULT. */
static int note_places(struct st_frame *f, const uint8_t *area, uint64_t present)
{
	int r;

	f->x87_ip = f->x87_dp = 0;
	if ((present & 1) == 0) {
		return 0;
	}
	r = soft_access_load8(&f->x87_ip, area + 8);
	return r == 0 ? soft_access_load8(&f->x87_dp, area + 16) : r;
}

/* Of PKRU in a compact image of these; AVX is what may be before it. */
static unsigned compact_place(uint64_t components)
{
	return (components & AVX) != 0 ? HEADER_END + AVX_BYTES : HEADER_END;
}

static bool save(struct soft_vcpu *vcpu, uint8_t *area, uint64_t components)
{
	if ((components & 1) != 0 && has_places(vcpu->translator)) {
		return false;
	}
	if (soft_access_xsavec(area, soft_native_mask(components)) != 0) {
		return false;
	}
	return (components & XCR0_PKRU) == 0 ||
	       soft_access_pkru(area, compact_place(components), vcpu->mmu.pkru) == 0;
}

/* Is PKRU what the image says it is? */
static bool same_pkru(const struct soft_vcpu *vcpu, const uint8_t *area, const struct header *h)
{
	uint64_t value = 0;
	unsigned at = (h->form & COMPACT) != 0 ? compact_place(h->form)
					       : vcpu->kvm->env->backend->pkru_at;

	if ((h->present & XCR0_PKRU) != 0 && soft_access_load8(&value, area + at) != 0) {
		return false;
	}
	return (uint32_t)value == vcpu->mmu.pkru;
}

static bool restore(struct soft_vcpu *vcpu, const uint8_t *area, uint64_t components,
		    const struct header *h)
{
	/* Another one is the interpreter's: windows may be what it forbids. */
	if ((components & XCR0_PKRU) != 0 && !same_pkru(vcpu, area, h)) {
		return false;
	}
	return soft_access_xrstor(area, soft_native_mask(components)) == 0 &&
	       ((components & 1) == 0 ||
		note_places(vcpu->translator->frame, area, h->present) == 0);
}

uint64_t st_image_insn(struct soft_vcpu *vcpu, uint64_t linear, uint32_t what)
{
	struct st_frame *f = vcpu->translator->frame;
	const struct kvm_vcpu *kvm = vcpu->kvm;
	bool saves = ST_SYSTEM_KIND(what) == ST_SYSTEM_XSAVEC, done;
	uint64_t components = ((uint32_t)f->gpr[0] | f->gpr[2] << 32) & kvm->xcr0;
	struct header h = {0};
	uint8_t *area;

	if ((kvm->cpu.cr4 & CR4_OSXSAVE) == 0 || (kvm->cpu.cr0 & CR0_TS) != 0 ||
	    (kvm->xcr0 & ~COMPONENTS) != 0 || kvm->msr[KVM_MSR_XSS] != 0) {
		return 0;
	}
	area = image_at(vcpu, linear, saves);
	if (area == NULL ||
	    (!saves && !header_easy(area, kvm->xcr0, (what & ST_SYSTEM_SUPERVISOR) != 0, &h))) {
		return 0;
	}
	load_fpu(f);
	done = saves ? save(vcpu, area, components) : restore(vcpu, area, components, &h);
	return done ? f->site : 0;
}
