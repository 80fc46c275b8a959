#include "vmm/vcpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit.h"

#define CPUS	  2
#define RUN_BYTES 0x2000
#define IO_DATA	  0x1000 /* where in the page the bytes of port accesses lie */
#define PORT	  0x500
#define ADDR	  UINT64_C(0xd0000000)

/* ---- a provider: each vCPU leaves the guest as it is told, or stays in it until it is kicked ----
 */

struct fake {
	struct kvm_run *run;
	atomic_uint nruns;
	atomic_bool leave; /* with what @exit says */
	struct kvm_run exit;
	uint8_t data[64]; /* at IO_DATA */
	atomic_int fails; /* -errno of the next runs */
};

static struct {
	struct host_vm vm;
	struct bus pio, mmio;
	struct vcpus set;
	struct fake fake[CPUS];
	unsigned ncreated, created_max;
	char log[256]; /* what the device on both buses saw */
	atomic_int end;
} t;

int host_vcpu_create(struct host_vm *vm, struct host_vcpu *vcpu, unsigned index)
{
	(void)vm;
	if (t.ncreated == t.created_max) {
		return -ENOMEM;
	}
	t.ncreated++;
	t.fake[index].run = calloc(1, RUN_BYTES);
	*vcpu = (struct host_vcpu){.fd = (int)index, .run = t.fake[index].run};
	return 0;
}

void host_vcpu_destroy(struct host_vm *vm, struct host_vcpu *vcpu)
{
	(void)vm;
	t.ncreated--;
	free(vcpu->run);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

int host_vcpu_run(struct host_vcpu *vcpu)
{
	struct fake *f = &t.fake[vcpu->fd];
	int fails;

	f->nruns++;
	for (;;) {
		if (__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_SEQ_CST) != 0) {
			return -EINTR;
		}
		fails = atomic_exchange(&f->fails, 0);
		if (fails != 0) {
			return fails;
		}
		if (atomic_exchange(&f->leave, false)) {
			memcpy(vcpu->run, &f->exit, sizeof(f->exit));
			memcpy((uint8_t *)vcpu->run + IO_DATA, f->data, sizeof(f->data));
			return 0;
		}
		nap();
	}
}

int host_vcpu_interrupt(struct host_vcpu *vcpu, unsigned vector)
{
	(void)vcpu;
	(void)vector;
	return 0;
}

int host_vcpu_get_regs(struct host_vcpu *vcpu, struct kvm_regs *regs)
{
	(void)vcpu;
	*regs = (struct kvm_regs){0};
	return 0;
}

int host_vcpu_get_sregs(struct host_vcpu *vcpu, struct kvm_sregs *sregs)
{
	(void)vcpu;
	*sregs = (struct kvm_sregs){0};
	return 0;
}

/* ---- what is around the vCPUs ---- */

static void note(const char *what, uint64_t offset, unsigned len, uint64_t value)
{
	size_t n = strlen(t.log);

	snprintf(t.log + n, sizeof(t.log) - n, "%s %llx/%u=%llx;", what, (unsigned long long)offset,
		 len, (unsigned long long)value);
}

static uint64_t dev_read(void *dev, uint64_t offset, unsigned len)
{
	(void)dev;
	note("r", offset, len, 0);
	return UINT64_C(0x1122334455667788);
}

static void dev_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)dev;
	note("w", offset, len, value);
}

static void on_end(void *ctx, enum vcpu_end why)
{
	(void)ctx;
	atomic_store(&t.end, (int)why);
}

static int create(void)
{
	static const struct bus_ops ops = {dev_read, dev_write};
	const struct vcpu_env env = {.pio = &t.pio, .mmio = &t.mmio, .end = on_end};

	memset(&t, 0, sizeof(t));
	atomic_store(&t.end, -1);
	t.created_max = CPUS;
	bus_init(&t.pio);
	bus_init(&t.mmio);
	assert_int_equal(bus_map(&t.pio, PORT, 16, &ops, NULL), 0);
	assert_int_equal(bus_map(&t.mmio, ADDR, 0x1000, &ops, NULL), 0);
	return vcpus_create(&t.set, &t.vm, &env, CPUS);
}

static int setup(void **unused)
{
	(void)unused;
	return create();
}

static int teardown(void **unused)
{
	(void)unused;
	vcpus_destroy(&t.set);
	assert_int_equal(t.ncreated, 0);
	bus_fini(&t.mmio);
	bus_fini(&t.pio);
	return 0;
}

static void wait_runs(unsigned index, unsigned n)
{
	while (t.fake[index].nruns < n) {
		nap();
	}
}

/* The vCPU, which was resumed, leaves the guest with what was put into its fake's @exit. */
static struct kvm_run *serve(unsigned index)
{
	struct fake *f = &t.fake[index];
	unsigned before;

	wait_runs(index, 1); /* its thread may not have come that far yet */
	before = f->nruns;
	t.log[0] = '\0';
	atomic_store(&f->leave, true);
	while (f->nruns == before && atomic_load(&t.end) < 0) {
		nap();
	}
	return f->run;
}

/* ---- tests ---- */

static void gate(void **unused)
{
	unsigned before;

	(void)unused;
	assert_true(vcpus_paused(&t.set));
	nap();
	assert_int_equal(t.fake[0].nruns + t.fake[1].nruns, 0);

	vcpus_resume(&t.set);
	assert_false(vcpus_paused(&t.set));
	wait_runs(0, 1);
	wait_runs(1, 1);
	vcpus_kick(&t.set, 1);
	wait_runs(1, 2);

	vcpus_pause(&t.set);
	assert_true(vcpus_paused(&t.set));
	for (unsigned i = 0; i < 20; i++) {
		nap(); /* so that both arrive at the gate */
	}
	before = t.fake[0].nruns + t.fake[1].nruns;
	vcpus_kick(&t.set, 0);
	for (unsigned i = 0; i < 20; i++) {
		nap();
	}
	assert_int_equal(t.fake[0].nruns + t.fake[1].nruns, before);
	vcpus_resume(&t.set);
	wait_runs(0, 2);
}

/* A device's thread may pause or kick when the vCPUs have gone already. */
static void stop(void **unused)
{
	(void)unused;
	vcpus_resume(&t.set);
	wait_runs(0, 1);
	vcpus_stop(&t.set);
	for (unsigned i = 0; i < CPUS; i++) {
		t.fake[i].run->immediate_exit = 0;
	}
	vcpus_kick(&t.set, 0);
	vcpus_pause(&t.set);
	vcpus_resume(&t.set);
	vcpus_stop(&t.set);
	for (unsigned i = 0; i < CPUS; i++) {
		assert_int_equal(t.fake[i].run->immediate_exit, 0);
	}
	assert_int_equal(t.end, -1);
}

static void create_fails(void **unused)
{
	const struct vcpu_env env = {.pio = &t.pio, .mmio = &t.mmio, .end = on_end};

	(void)unused;
	vcpus_destroy(&t.set);
	t.created_max = 1;
	assert_int_equal(vcpus_create(&t.set, &t.vm, &env, CPUS), -ENOMEM);
	assert_int_equal(t.ncreated, 0);
	t.created_max = CPUS;
	assert_int_equal(vcpus_create(&t.set, &t.vm, &env, CPUS), 0);
}

static void ports(void **unused)
{
	struct fake *f = &t.fake[1];
	const uint8_t *data;

	(void)unused;
	vcpus_resume(&t.set);
	f->exit.exit_reason = KVM_EXIT_IO;
	f->exit.io.direction = KVM_EXIT_IO_OUT;
	f->exit.io.size = 2;
	f->exit.io.port = PORT + 4;
	f->exit.io.count = 3;
	f->exit.io.data_offset = IO_DATA;
	memcpy(f->data, "\1\2\3\4\5\6", 6);
	serve(1);
	assert_string_equal(t.log, "w 4/2=201;w 4/2=403;w 4/2=605;");

	f->exit.io.direction = KVM_EXIT_IO_IN;
	f->exit.io.size = 1;
	data = (const uint8_t *)serve(1) + IO_DATA;
	assert_string_equal(t.log, "r 4/1=0;r 4/1=0;r 4/1=0;");
	assert_memory_equal(data, "\x88\x88\x88\4", 4);

	/* Nobody is there. */
	f->exit.io.port = 0xffff;
	data = (const uint8_t *)serve(1) + IO_DATA;
	assert_memory_equal(data, "\xff\xff\xff\4", 4);
	assert_string_equal(t.log, "");
}

static void memory(void **unused)
{
	struct fake *f = &t.fake[0];
	struct kvm_run *run;

	(void)unused;
	vcpus_resume(&t.set);
	f->exit.exit_reason = KVM_EXIT_MMIO;
	f->exit.mmio.phys_addr = ADDR + 8;
	f->exit.mmio.is_write = 1;
	f->exit.mmio.len = 7;
	memcpy(f->exit.mmio.data, "\1\2\3\4\5\6\7", 7);
	serve(0);
	assert_string_equal(t.log, "w 8/4=4030201;w c/2=605;w e/1=7;");

	f->exit.mmio.is_write = 0;
	f->exit.mmio.len = 3;
	run = serve(0);
	assert_string_equal(t.log, "r 8/2=0;r a/1=0;");
	assert_memory_equal(run->mmio.data, "\x88\x77\x88\4", 4);

	/* More than the API can say. */
	f->exit.mmio.len = 200;
	run = serve(0);
	assert_string_equal(t.log, "r 8/8=0;");
	assert_memory_equal(run->mmio.data, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
}

/* Signals and states of the provider that are no reason to end. */
static void goes_on(void **unused)
{
	static const uint32_t reasons[] = {KVM_EXIT_INTR, KVM_EXIT_HLT, KVM_EXIT_IRQ_WINDOW_OPEN};
	struct fake *f = &t.fake[0];

	(void)unused;
	vcpus_resume(&t.set);
	wait_runs(0, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
		f->exit.exit_reason = reasons[i];
		serve(0);
	}
	atomic_store(&f->fails, -EAGAIN);
	wait_runs(0, f->nruns + 1);
	atomic_store(&f->fails, -EINTR);
	wait_runs(0, f->nruns + 1);
	assert_int_equal(t.end, -1);
}

static void ends(void **unused)
{
	static const struct {
		uint32_t reason, suberror;
		enum vcpu_end end;
	} cases[] = {
		{KVM_EXIT_SHUTDOWN, 0, VCPU_TRIPLE_FAULT},
		/* Such as code in a device's registers: a guest gets there by jumping. */
		{KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION, VCPU_NOT_EMULATED},
		{KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_DELIVERY_EV, VCPU_NOT_EMULATED},
		{KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, VCPU_FAILED},
		{KVM_EXIT_FAIL_ENTRY, 0, VCPU_FAILED},
		{12345, 0, VCPU_FAILED},
	};

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fake *f = &t.fake[0];

		vcpus_resume(&t.set);
		f->exit.exit_reason = cases[i].reason;
		if (cases[i].reason == KVM_EXIT_INTERNAL_ERROR) {
			f->exit.internal.suberror = cases[i].suberror;
			f->exit.internal.ndata = 1000;
		}
		serve(0);
		assert_int_equal(t.end, cases[i].end);
		/* Its thread has ended, the others run on until they are stopped. */
		vcpus_kick(&t.set, 0);
		vcpus_kick(&t.set, 1);
		vcpus_stop(&t.set);
		teardown(NULL);
		assert_int_equal(create(), 0);
	}
	vcpus_resume(&t.set);
	atomic_store(&t.fake[1].fails, -EFAULT);
	while (atomic_load(&t.end) < 0) {
		nap();
	}
	assert_int_equal(t.end, VCPU_FAILED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(gate),   TEST(stop),    TEST(create_fails), TEST(ports),
		TEST(memory), TEST(goes_on), TEST(ends),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
