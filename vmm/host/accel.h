/*
 * Which KVM provider runs the guest's CPUs, and why not another.
 *
 * The trap: some cloud machines have a /dev/kvm although their CPU offers neither VMX nor SVM
 * (KVM's PVM back end). It answers the whole API, and then an unmodified guest spins in the kernel
 * for ever. So the flags of the CPU are asked before the device is believed.
 */
#pragma once

#include "vmm/config.h"

#define ACCEL_DEVICE "/dev/kvm"

/** What was found out about KVM here. */
struct accel_facts {
	bool hardware;	  /* the CPU has VMX or SVM, switched on */
	int device_error; /* of opening the device: 0 or -errno */
	int api_version;  /* 12 is the only good one; 0: not asked */
};

/**
 * accel_probe() - looks at the CPU and at /dev/kvm. Where the CPU has no hardware virtualization
 * the device is only looked at from outside.
 */
void accel_probe(struct accel_facts *facts);

/**
 * accel_why_not() - what stands against KVM.
 * Return: NULL if nothing does; or half a sentence for the user, with what to do about it.
 */
const char *accel_why_not(const struct accel_facts *facts);

/** accel_is_trap() - is there a device that answers, on a CPU that cannot virtualize? */
bool accel_is_trap(const struct accel_facts *facts);

/**
 * accel_decide() - the choice, from facts. It is said if it is not KVM.
 * @soft: does the program bring the provider in software?
 * Return: 0; or -ENODEV, logged, if what is wanted cannot run the guest.
 */
must_use int accel_decide(enum accel wanted, const struct accel_facts *facts, bool soft,
			  enum accel *chosen);

/** accel_choose() - the same for this machine. */
must_use int accel_choose(enum accel wanted, bool soft, enum accel *chosen);

/** cpuinfo_has_virtualization() - is vmx or svm among the flags in @text, of /proc/cpuinfo? */
bool cpuinfo_has_virtualization(const char *text);
