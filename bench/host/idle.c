/*
 * How often each CPU of a machine is interrupted that has nothing to do but to host a guest in HLT.
 *
 *	idle SECONDS		prints: idle: CPU N: COUNT, a line for each
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX  64
#define SETTLE_S  2 /* what a host still has to do when a guest has begun */
#define CODE	  0x1000
#define RAM_BYTES 0x2000

static int must(int result, const char *what)
{
	if (result < 0) {
		err(1, "%s", what);
	}
	return result;
}

static void *run(void *vcpu)
{
	/* A signal does not come, and neither does an interrupt. */
	(void)ioctl(*(int *)vcpu, KVM_RUN, 0);
	errx(1, "the guest has left HLT");
}

/* CLI, HLT; with the whole irqchip it is the kernel that waits for the end of it. */
static void start_guest(void)
{
	static const uint8_t code[] = {0xfa, 0xf4};
	static int vcpu;
	void *ram =
		mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {.memory_size = RAM_BYTES,
						   .userspace_addr = (uintptr_t)ram};
	struct kvm_regs regs = {.rflags = 2, .rip = CODE};
	int vm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	struct kvm_sregs sregs;
	pthread_t thread;

	vm = must(ioctl(vm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	must(ram == MAP_FAILED ? -1 : 0, "mmap");
	memcpy((uint8_t *)ram + CODE, code, sizeof(code));
	must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	vcpu = must(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	must(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	must(-pthread_create(&thread, NULL, run, &vcpu), "pthread_create");
}

/* All kinds there are. Return: of how many CPUs. */
static unsigned count(uint64_t sum[CPUS_MAX])
{
	static char text[64 * 1024];
	int fd = must(open("/proc/interrupts", O_RDONLY | O_CLOEXEC), "/proc/interrupts");
	size_t len = 0;
	ssize_t n;
	unsigned cpus = 0;
	char *line, *rest = text;

	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0) {
		len += (size_t)n;
	}
	close(fd);
	text[len] = '\0';
	memset(sum, 0, CPUS_MAX * sizeof(*sum));
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *at = strchr(line, ':');

		if (at == NULL) { /* the first line: the CPUs' names */
			for (at = line; (at = strstr(at, "CPU")) != NULL; at++) {
				cpus++;
			}
			continue;
		}
		at++;
		for (unsigned i = 0; i < cpus && i < CPUS_MAX; i++) {
			char *end;

			sum[i] += strtoull(at, &end, 10);
			at = end;
		}
	}
	return cpus;
}

int main(int argc, char **argv)
{
	static uint64_t before[CPUS_MAX], now[CPUS_MAX];
	struct timespec settle = {.tv_sec = SETTLE_S}, time = {0};
	unsigned cpus;

	if (argc != 2) {
		errx(2, "usage: idle SECONDS");
	}
	time.tv_sec = strtol(argv[1], NULL, 10);
	start_guest();
	nanosleep(&settle, NULL);
	count(before);
	nanosleep(&time, NULL);
	cpus = count(now);
	for (unsigned i = 0; i < cpus && i < CPUS_MAX; i++) {
		printf("idle: CPU %u: %llu\n", i, (unsigned long long)(now[i] - before[i]));
	}
	return cpus == 0;
}
