/* The interrupt half: local APICs, and what a vCPU asks before it enters the guest. */
#include <errno.h>

#include "lib/base/bytes.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/irq_internal.h"

#define BASE_RESERVED UINT64_C(0x2ff)

#define LVT_EXTINT (LAPIC_EXTINT << 8)

/* The time is looked at for the timer's registers only: it costs something to know. */
static bool is_timer(uint32_t offset)
{
	return (offset & ~15u) == LAPIC_LVT_TIMER ||
	       (offset >= LAPIC_TIMER_INITIAL && offset < LAPIC_SELF_IPI);
}

static struct lapic_time time_now(struct kvm_vcpu *vcpu)
{
	return (struct lapic_time){
		.now_ns = kvm_ops(vcpu->env)->now_ns(vcpu->env),
		.tsc = kvm_vcpu_guest_tsc(vcpu),
		.tsc_khz = MAX(vcpu->tsc_khz, UINT64_C(1)),
	};
}

static const struct lapic_time no_time = {.tsc_khz = 1};

static struct lapic_time time_for(struct kvm_vcpu *vcpu, uint32_t offset)
{
	return is_timer(offset) ? time_now(vcpu) : no_time;
}

/* ---- deadlines, ahead of their time ---- */

/*
 * It is a long way from the timer's interrupt to the guest's. So the timer of a TSC deadline
 * expires earlier by what that way has taken before, everything is prepared, and for what is left
 * then the backend waits, right before it lets the guest run (vcpu->not_before). Meanwhile the
 * vCPU keeps its CPU, with interrupts off, and as a part of its own share of it: EARLY_MAX_NS for a
 * deadline, and usually a tenth of a microsecond. Where another thread is to run it does not wait.
 *
 * User space can see the interrupt requested that much before its time; the guest never can.
 */
#define EARLY_FIRST_NS 1000
#define EARLY_MAX_NS   5000
#define EARLY_SPARE_NS 40 /* as a timer is only so exact */

#define NS_PER_MS 1000000

static uint32_t earliness(const struct kvm_apic *apic, uint64_t deadline_ns)
{
	return lapic_deadline(&apic->lapic) == 0 ? 0 : (uint32_t)MIN(apic->early_ns, deadline_ns);
}

/*
 * Late: at once so much more the next time. Too early: a little less, since the way out of HLT is
 * longer than that out of the guest. What was far too late waited for other reasons.
 */
static void learn(struct kvm_apic *apic)
{
	struct kvm_vcpu *vcpu = apic->vcpu;
	int64_t ns;

	if (vcpu->early == 0 || !apic->early_counts) {
		return;
	}
	ns = vcpu->early * NS_PER_MS / (int64_t)vcpu->env->tsc_khz;
	vcpu->early = 0;
	if (ns < 0 && ns > -EARLY_MAX_NS) {
		apic->early_ns =
			(uint32_t)MIN(apic->early_ns - ns + EARLY_SPARE_NS, (int64_t)EARLY_MAX_NS);
	} else if (ns > 2 * EARLY_SPARE_NS) {
		apic->early_ns -= MIN((uint32_t)(ns - EARLY_SPARE_NS) / 8, apic->early_ns);
	}
}

/* What expires at once, as if it were due, if that is to be expected. */
static void expire_early(struct kvm_apic *apic, struct lapic_time *time)
{
	struct kvm_vcpu *vcpu = apic->vcpu;
	uint64_t tsc = lapic_deadline(&apic->lapic), due_ns = apic->lapic.deadline_ns;

	if (!vcpu->env->backend->waits || tsc <= time->tsc || due_ns == UINT64_MAX) {
		return;
	}
	if (tsc - time->tsc > (uint64_t)EARLY_MAX_NS * time->tsc_khz / NS_PER_MS) {
		/* This is not its interrupt, or clocks have moved. */
		kvm_ops(vcpu->env)->timer_arm(vcpu->env, &apic->timer,
					      due_ns - earliness(apic, due_ns));
		return;
	}
	vcpu->not_before = kvm_clock_host_tsc(vcpu, tsc, time->tsc);
	time->tsc = tsc;
	time->now_ns = MAX(time->now_ns, due_ns);
}

/* ---- what a local APIC does to the rest ---- */

static void send(void *ctx, const struct lapic_message *message)
{
	struct kvm_apic *apic = ctx;
	struct kvm_vm *vm = apic->vcpu->vm;

	(void)lapic_bus_send(vm->irq->lapics, kvm_vm_count(vm), &apic->lapic, message);
}

static void eoi(void *ctx, uint8_t vector)
{
	struct kvm_apic *apic = ctx;
	struct kvm_vm *vm = apic->vcpu->vm;

	if (vm->irqchip == KVM_IRQCHIP_FULL) {
		irq_chips_eoi(vm->irq, vector);
	} else if (irq_routes_level(vm->irq, vector)) {
		kvm_vcpu_eoi_exit(apic->vcpu, vector);
	}
}

static void set_timer(void *ctx, uint64_t deadline_ns)
{
	struct kvm_apic *apic = ctx;
	struct kvm_env *env = apic->vcpu->env;

	if (deadline_ns == UINT64_MAX) {
		kvm_ops(env)->timer_cancel(env, &apic->timer);
	} else {
		kvm_ops(env)->timer_arm(env, &apic->timer,
					deadline_ns - earliness(apic, deadline_ns));
	}
}

static void expired(struct kvm_timer *timer)
{
	struct kvm_apic *apic = timer->owner;

	atomic_store_explicit(&apic->expired, true, memory_order_relaxed);
	kvm_vcpu_request(apic->vcpu, KVM_REQ_EVENT); /* releases what was written before */
}

static void posted(void *ctx, enum lapic_mode mode, uint8_t vector)
{
	struct kvm_apic *apic = ctx;

	if (mode == LAPIC_FIXED) {
		kvm_vcpu_request(apic->vcpu, KVM_REQ_EVENT);
		return;
	}
	switch (mode) {
	case LAPIC_NMI:
		kvm_vcpu_nmi(apic->vcpu);
		return;
	case LAPIC_SMI:
		return; /* there is no system management mode */
	case LAPIC_INIT:
		/* A SIPI that waits is forgotten. */
		atomic_store_explicit(&apic->arrived, APIC_ARRIVED_INIT, memory_order_release);
		break;
	case LAPIC_STARTUP:
		atomic_store_explicit(&apic->sipi_vector, vector, memory_order_relaxed);
		/* Pairs with the acquire in kvm_irq_take_init_sipi(): the vector is there. */
		atomic_fetch_or_explicit(&apic->arrived, APIC_ARRIVED_SIPI, memory_order_release);
		break;
	default:
		break;
	}
	kvm_vcpu_request(apic->vcpu, KVM_REQ_EVENT);
}

static void moved(void *ctx)
{
	irq_layout_changed(((struct kvm_apic *)ctx)->vcpu->vm->irq);
}

static const struct lapic_ops apic_ops = {
	.send = send,
	.eoi = eoi,
	.timer = set_timer,
	.posted = posted,
	.moved = moved,
};

/* ---- life ---- */

/*
 * Linux's virtual wire: the first CPU takes the PIC's interrupts without being told to. It is a
 * quirk that user space can switch off.
 */
static void connect_pic(struct kvm_apic *apic)
{
	if (kvm_vcpu_is_bootstrap(apic->vcpu) &&
	    (apic->vcpu->vm->quirks_off & KVM_X86_QUIRK_LINT0_REENABLED) == 0) {
		apic->lapic.regs[LAPIC_LVT_LINT0 / 16] = LVT_EXTINT;
	}
}

int kvm_irq_vcpu_init(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	struct kvm_env *env = vcpu->env;
	bool first = kvm_vcpu_is_bootstrap(vcpu);
	struct kvm_apic *apic;

	if (vm->irqchip == KVM_IRQCHIP_NONE) {
		vcpu->apic_base = LAPIC_BASE | LAPIC_BASE_ENABLE | (first ? LAPIC_BASE_BSP : 0);
		return 0;
	}
	apic = kvm_ops(env)->alloc(env, KVM_STORE_VM, sizeof(*apic));
	if (apic == NULL) {
		return -ENOMEM;
	}
	apic->vcpu = vcpu;
	apic->extint = -1;
	apic->early_ns = env->backend->waits ? EARLY_FIRST_NS : 0;
	apic->timer.expired = expired;
	apic->timer.owner = apic;
	lapic_init(&apic->lapic, vcpu->id, first, &apic_ops, apic);
	connect_pic(apic);
	vcpu->apic = apic;
	vm->irq->lapics[vcpu->index] = &apic->lapic;
	return 0;
}

void kvm_irq_vcpu_fini(struct kvm_vcpu *vcpu)
{
	struct kvm_env *env = vcpu->env;

	if (vcpu->apic != NULL) {
		kvm_ops(env)->timer_cancel(env, &vcpu->apic->timer);
		kvm_ops(env)->free(env, KVM_STORE_VM, vcpu->apic, sizeof(*vcpu->apic));
		vcpu->apic = NULL;
	}
}

void kvm_irq_vcpu_reset(struct kvm_vcpu *vcpu, bool init)
{
	struct kvm_apic *apic = vcpu->apic;
	bool first = kvm_vcpu_is_bootstrap(vcpu);

	if (apic == NULL) {
		return;
	}
	if (!init) {
		apic->lapic.base = LAPIC_BASE | LAPIC_BASE_ENABLE | (first ? LAPIC_BASE_BSP : 0);
		apic->lapic.regs[LAPIC_ID / 16] = vcpu->id << 24;
	}
	lapic_reset(&apic->lapic);
	connect_pic(apic);
	apic->extint = -1;
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}

/* ---- before the guest is entered ---- */

/* The PIC's or user space's own interrupt, past the local APIC's priorities. */
static bool extint_waits(const struct kvm_vcpu *vcpu)
{
	const struct kvm_apic *apic = vcpu->apic;

	if (vcpu->vm->irqchip == KVM_IRQCHIP_SPLIT) {
		return apic->extint >= 0 && lapic_takes_extint(&apic->lapic);
	}
	/* Without the lock: a change that is missed comes with KVM_REQ_EVENT. */
	return __atomic_load_n(&vcpu->vm->irq->pic.intr_level, __ATOMIC_RELAXED) &&
	       lapic_takes_extint(&apic->lapic);
}

int kvm_irq_pending(struct kvm_vcpu *vcpu)
{
	struct kvm_apic *apic = vcpu->apic;

	if (apic == NULL) {
		return -1;
	}
	if (extint_waits(vcpu)) {
		return apic->extint >= 0 ? apic->extint : 0;
	}
	return lapic_pending(&apic->lapic);
}

bool kvm_irq_held_back(struct kvm_vcpu *vcpu)
{
	int vector = vcpu->apic == NULL ? -1 : lapic_waiting(&vcpu->apic->lapic);

	return vector >= 0 && vector >> 4 <= lapic_tpr(&vcpu->apic->lapic);
}

int kvm_irq_accept(struct kvm_vcpu *vcpu, bool *more)
{
	struct kvm_apic *apic = vcpu->apic;
	int vector;

	*more = false;
	if (apic == NULL) {
		return -1;
	}
	if (extint_waits(vcpu)) {
		*more = true;
		if (vcpu->vm->irqchip == KVM_IRQCHIP_FULL) {
			return irq_pic_accept(vcpu->vm->irq);
		}
		vector = apic->extint;
		apic->extint = -1;
		return vector;
	}
	/* What else there is now is not above it. */
	vector = lapic_pending(&apic->lapic);
	if (vector >= 0) {
		lapic_take(&apic->lapic, (uint8_t)vector);
	}
	return vector;
}

static __attribute__((noinline)) void expire(struct kvm_vcpu *vcpu)
{
	struct lapic_time time = time_now(vcpu);

	expire_early(vcpu->apic, &time);
	lapic_expire(&vcpu->apic->lapic, &time);
}

void kvm_irq_sync(struct kvm_vcpu *vcpu)
{
	struct kvm_apic *apic = vcpu->apic;

	if (apic != NULL && atomic_load_explicit(&apic->expired, memory_order_relaxed) &&
	    atomic_exchange_explicit(&apic->expired, false, memory_order_relaxed)) {
		expire(vcpu);
	}
}

void kvm_irq_queue_sipi(struct kvm_vcpu *vcpu)
{
	struct kvm_apic *apic = vcpu->apic;

	if (apic == NULL) {
		return;
	}
	atomic_store_explicit(&apic->sipi_vector, vcpu->sipi_page, memory_order_relaxed);
	/* Pairs with the acquire in kvm_irq_take_init_sipi(): the vector is there. */
	atomic_fetch_or_explicit(&apic->arrived, APIC_ARRIVED_SIPI, memory_order_release);
}

bool kvm_irq_has_init_sipi(const struct kvm_vcpu *vcpu)
{
	return vcpu->apic != NULL &&
	       atomic_load_explicit(&vcpu->apic->arrived, memory_order_relaxed) != 0;
}

/* Spec: Intel SDM vol. 3A, "MP Initialization Protocol": only one that waits takes a SIPI. */
void kvm_irq_take_init_sipi(struct kvm_vcpu *vcpu)
{
	struct kvm_apic *apic = vcpu->apic;
	uint32_t arrived;

	if (apic == NULL) {
		return;
	}
	/* Pairs with the release in posted(). */
	arrived = atomic_exchange_explicit(&apic->arrived, 0, memory_order_acquire);
	if ((arrived & APIC_ARRIVED_INIT) != 0) {
		kvm_vcpu_init_reset(vcpu);
		vcpu->mp_state = kvm_vcpu_is_bootstrap(vcpu) ? KVM_MP_STATE_RUNNABLE
							     : KVM_MP_STATE_INIT_RECEIVED;
	}
	if ((arrived & APIC_ARRIVED_SIPI) != 0 && vcpu->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
		kvm_vcpu_sipi(vcpu, (uint8_t)atomic_load_explicit(&apic->sipi_vector,
								  memory_order_relaxed));
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}

/* ---- registers ---- */

bool kvm_irq_apic_page(const struct kvm_vcpu *vcpu, uint64_t gpa, uint32_t *offset)
{
	const struct kvm_apic *apic = vcpu->apic;

	if (apic == NULL || (gpa ^ apic->lapic.base) >> 12 != 0 ||
	    (apic->lapic.base & (LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC)) != LAPIC_BASE_ENABLE) {
		return false;
	}
	*offset = gpa & 0xfff;
	return true;
}

/* Is it the page of an APIC that does not answer there now? Linux keeps others out all the same. */
static bool is_hole(const struct kvm_vcpu *vcpu, uint64_t gpa)
{
	return vcpu->apic != NULL && (gpa ^ vcpu->apic->lapic.base) >> 12 == 0 &&
	       (vcpu->vm->quirks_off & KVM_X86_QUIRK_LAPIC_MMIO_HOLE) == 0;
}

static __attribute__((noinline)) void mmio_read(struct kvm_vcpu *vcpu, uint32_t offset,
						unsigned bytes, void *data)
{
	struct lapic_time time = time_for(vcpu, offset);
	bool whole = offset % 16 + bytes <= 4;

	store_le(data, whole ? lapic_read(&vcpu->apic->lapic, offset, &time) : 0, bytes);
}

static __attribute__((noinline)) void timer_write(struct kvm_vcpu *vcpu, uint32_t offset,
						  uint32_t value)
{
	struct lapic_time time = time_now(vcpu);

	lapic_write(&vcpu->apic->lapic, offset, value, &time);
}

/*
 * Is there to be another look at interrupts? Those that are sent ask for it by themselves, but for
 * the interrupt about one that cannot be sent.
 */
static void note_write(struct kvm_vcpu *vcpu, uint32_t offset)
{
	struct lapic *lapic = &vcpu->apic->lapic;
	bool sends = offset == LAPIC_ICR || offset == LAPIC_ICR_HIGH || offset == LAPIC_SELF_IPI;

	if ((sends && lapic->errors == 0) || (offset == LAPIC_EOI && lapic_waiting(lapic) < 0)) {
		return;
	}
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}

bool irq_apic_mmio(struct kvm_vcpu *vcpu, uint64_t gpa, unsigned bytes, void *data, bool write)
{
	uint32_t offset;

	if (!kvm_irq_apic_page(vcpu, gpa, &offset)) {
		if (!is_hole(vcpu, gpa)) {
			return false;
		}
		if (!write) {
			store_le(data, UINT64_MAX, bytes);
		}
		return true;
	}
	if (!write) {
		mmio_read(vcpu, offset, bytes, data);
	} else if (bytes == 4) {
		if (is_timer(offset)) {
			timer_write(vcpu, offset, load_le32(data));
		} else {
			lapic_write(&vcpu->apic->lapic, offset, load_le32(data), &no_time);
		}
		note_write(vcpu, offset);
	}
	return true;
}

int kvm_irq_x2apic_read(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	struct lapic_time time;

	if (vcpu->apic == NULL) {
		return -EINVAL;
	}
	time = time_for(vcpu, (msr - LAPIC_MSR_FIRST) * 16);
	return lapic_msr_read(&vcpu->apic->lapic, msr, value, &time);
}

static __attribute__((noinline)) int timer_msr_write(struct kvm_vcpu *vcpu, uint32_t msr,
						     uint64_t value)
{
	struct lapic_time time = time_now(vcpu);

	return lapic_msr_write(&vcpu->apic->lapic, msr, value, &time);
}

int kvm_irq_x2apic_write(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value)
{
	uint32_t offset = (msr - LAPIC_MSR_FIRST) * 16;
	int error;

	if (vcpu->apic == NULL) {
		return -EINVAL;
	}
	if (is_timer(offset)) {
		error = timer_msr_write(vcpu, msr, value);
	} else {
		error = lapic_msr_write(&vcpu->apic->lapic, msr, value, &no_time);
	}
	note_write(vcpu, offset);
	return error;
}

/* Only user space may go from xAPIC back out of x2APIC, or straight into it; off is on the way. */
static int change_base(struct lapic *lapic, uint64_t value, bool host)
{
	uint64_t modes = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
	int error = lapic_set_base(lapic, value);

	if (error == 0 || !host || (value & modes) == LAPIC_BASE_X2APIC) {
		return error;
	}
	error = lapic_set_base(lapic, (value & modes) == modes
					      ? value & ~(uint64_t)LAPIC_BASE_X2APIC
					      : value & ~modes);
	return error != 0 ? error : lapic_set_base(lapic, value);
}

int kvm_irq_set_apic_base(struct kvm_vcpu *vcpu, uint64_t value, bool host)
{
	uint64_t old = kvm_irq_apic_base(vcpu);
	uint64_t reserved = BASE_RESERVED | ~(BIT(vcpu->features.phys_bits) - 1);
	int error = 0;

	if (!kvm_cpuid_has(vcpu, CPUID_FEATURES, CPUID_ECX, CPUID_1_ECX_X2APIC)) {
		reserved |= LAPIC_BASE_X2APIC;
	}
	if ((value & reserved) != 0) {
		return -EINVAL;
	}
	if (vcpu->apic != NULL) {
		error = change_base(&vcpu->apic->lapic, value, host);
	} else if ((value & LAPIC_BASE_X2APIC) != 0 && (value & LAPIC_BASE_ENABLE) == 0) {
		error = -EINVAL;
	} else {
		vcpu->apic_base = value;
	}
	if (error == 0 && ((old ^ value) & LAPIC_BASE_ENABLE) != 0) {
		kvm_cpuid_refresh(vcpu);
	}
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	return error;
}

uint64_t kvm_irq_apic_base(const struct kvm_vcpu *vcpu)
{
	return vcpu->apic != NULL ? vcpu->apic->lapic.base : vcpu->apic_base;
}

uint64_t kvm_irq_cr8(const struct kvm_vcpu *vcpu)
{
	return lapic_tpr(&vcpu->apic->lapic);
}

void kvm_irq_set_cr8(struct kvm_vcpu *vcpu, uint64_t cr8)
{
	lapic_set_tpr(&vcpu->apic->lapic, (uint8_t)cr8);
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}

uint64_t kvm_irq_tsc_deadline(const struct kvm_vcpu *vcpu)
{
	return vcpu->apic != NULL ? lapic_deadline(&vcpu->apic->lapic) : 0;
}

void kvm_irq_set_tsc_deadline(struct kvm_vcpu *vcpu, uint64_t value)
{
	struct kvm_apic *apic = vcpu->apic;
	struct lapic_time time;

	if (apic != NULL) {
		learn(apic);
		time = time_now(vcpu);
		lapic_set_deadline(&apic->lapic, value, &time);
		apic->early_counts = apic->lapic.deadline_ns - apic->early_ns > time.now_ns;
		kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	}
}

void kvm_irq_tsc_changed(struct kvm_vcpu *vcpu)
{
	uint64_t deadline = kvm_irq_tsc_deadline(vcpu);

	if (deadline != 0) {
		kvm_irq_set_tsc_deadline(vcpu, deadline);
	}
}

/* What the APIC can do, IA32_APIC_BASE asks CPUID about when it is written. */
void kvm_irq_cpuid_changed(struct kvm_vcpu *vcpu)
{
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}

/* ---- ioctls ---- */

static bool wide_ids(const struct kvm_vcpu *vcpu)
{
	uint32_t flags = atomic_load_explicit(&vcpu->vm->irq->x2apic_flags, memory_order_relaxed);

	return (flags & KVM_X2APIC_API_USE_32BIT_IDS) != 0;
}

int kvm_irq_get_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *state)
{
	struct lapic_time time;

	_Static_assert(sizeof(state->regs) == 1024, "as lapic_save() has it");
	if (vcpu->apic == NULL) {
		return -EINVAL;
	}
	kvm_irq_sync(vcpu);
	time = time_now(vcpu);
	lapic_save(&vcpu->apic->lapic, (uint8_t *)state->regs, wide_ids(vcpu), &time);
	return 0;
}

int kvm_irq_set_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *state)
{
	struct lapic_time time;
	int error;

	if (vcpu->apic == NULL) {
		return -EINVAL;
	}
	time = time_now(vcpu);
	error = lapic_load(&vcpu->apic->lapic, (const uint8_t *)state->regs, wide_ids(vcpu), &time);
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	return error;
}

int kvm_irq_extint(struct kvm_vcpu *vcpu, uint32_t vector)
{
	if (vector > 255) {
		return -EINVAL;
	}
	if (vcpu->vm->irqchip != KVM_IRQCHIP_SPLIT) {
		return -ENXIO;
	}
	if (vcpu->apic->extint >= 0) {
		return -EEXIST;
	}
	vcpu->apic->extint = (int)vector;
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	return 0;
}

bool kvm_irq_extint_free(const struct kvm_vcpu *vcpu)
{
	const struct kvm_apic *apic = vcpu->apic;

	return apic == NULL || (apic->extint < 0 && lapic_takes_extint(&apic->lapic));
}
