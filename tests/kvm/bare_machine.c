#include "tests/kvm/bare_machine.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/guest/bare/bare.h"
#include "tests/kvm/faults.h"

#define START_INFO	    0x500 /* struct hvm_start_info */
#define START_INFO_CMDLINE  24
#define CMDLINE		    0x600
#define XEN_HVM_START_MAGIC 0x336ec578

extern const uint8_t bare_image[];

static const Elf64_Ehdr *header(void)
{
	return (const Elf64_Ehdr *)bare_image;
}

static const Elf64_Shdr *section(unsigned int type)
{
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(bare_image + header()->e_shoff);

	for (unsigned int i = 0; i < header()->e_shnum; i++) {
		if (sections[i].sh_type == type) {
			return &sections[i];
		}
	}
	fail("the image has no section of type %u", type);
}

uint64_t bare_symbol(const char *name)
{
	const Elf64_Shdr *table = section(SHT_SYMTAB);
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(bare_image + header()->e_shoff);
	const char *names = (const char *)bare_image + sections[table->sh_link].sh_offset;
	const Elf64_Sym *symbols = (const Elf64_Sym *)(bare_image + table->sh_offset);

	for (size_t i = 0; i < table->sh_size / sizeof(*symbols); i++) {
		if (strcmp(names + symbols[i].st_name, name) == 0) {
			return symbols[i].st_value;
		}
	}
	fail("the image has no symbol %s", name);
}

/* What of the image lies at an address of the guest. */
static const void *at(uint64_t address)
{
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(bare_image + header()->e_phoff);

	for (unsigned int i = 0; i < header()->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD && address - segment->p_vaddr < segment->p_filesz) {
			return bare_image + segment->p_offset + (address - segment->p_vaddr);
		}
	}
	fail("nothing lies at 0x%llx of the image", (unsigned long long)address);
}

bool bare_listed(size_t index, struct bare_listed *listed)
{
	static uint64_t from, to; /* looked for once: it is slow where a CPU is emulated */
	struct bare_case c;

	if (to == 0) {
		from = bare_symbol("bare_cases");
		to = bare_symbol("bare_cases_end");
	}
	if (index >= (to - from) / sizeof(c)) {
		return false;
	}
	memcpy(&c, at(from + index * sizeof(c)), sizeof(c));
	*listed = (struct bare_listed){
		.name = at((uintptr_t)c.name),
		.spec = at((uintptr_t)c.spec),
		.cpus = c.cpus,
		.needs = c.needs,
	};
	return true;
}

static void load(struct bare_machine *machine)
{
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(bare_image + header()->e_phoff);

	for (unsigned int i = 0; i < header()->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD) {
			expect(segment->p_paddr + segment->p_memsz <= BARE_RAM);
			memcpy(machine->ram + segment->p_paddr, bare_image + segment->p_offset,
			       segment->p_filesz);
		}
	}
	fault_patch(machine->ram);
}

/* The state that PVH prescribes: 32-bit protected mode, flat, no paging, ebx: start info. */
static void enter(struct vcpu *vcpu)
{
	struct kvm_sregs sregs = vcpu_sregs(vcpu);
	struct kvm_regs regs = {.rflags = 2, .rip = header()->e_entry, .rbx = START_INFO};
	struct kvm_segment data = {
		.limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};

	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.cs = data;
	sregs.cs.type = 11;
	sregs.tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
	sregs.cr0 = 0x11;
	vcpu_set_sregs(vcpu, &sregs);
	vcpu_set_regs(vcpu, &regs);
}

void bare_machine_init_empty(struct bare_machine *machine, uint32_t cpus, enum vm_irqchip irqchip)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	*machine = (struct bare_machine){.ram = vm_memory(BARE_RAM)};
	vm_create_bare(&machine->vm);
	must(kvm_ioctl(machine->vm.fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	must(vm_set_slot(&machine->vm, 0, 0, 0, BARE_RAM, machine->ram));
	vm_add_irqchip(&machine->vm, irqchip);
	if (irqchip == IRQCHIP_FULL) {
		must(kvm_ioctl(machine->vm.fd, KVM_CREATE_PIT2, &pit));
	}
	for (uint32_t i = 0; i < cpus; i++) {
		vm_add_vcpu(&machine->vm);
	}
}

void bare_machine_init(struct bare_machine *machine, const char *name, uint32_t cpus,
		       enum vm_irqchip irqchip)
{
	uint32_t magic = XEN_HVM_START_MAGIC, cmdline = CMDLINE;

	bare_machine_init_empty(machine, cpus, irqchip);
	load(machine);
	memcpy(machine->ram + START_INFO, &magic, sizeof(magic));
	memcpy(machine->ram + START_INFO + START_INFO_CMDLINE, &cmdline, sizeof(cmdline));
	sprintf((char *)machine->ram + CMDLINE, "%s%s", name,
		vm_svm_is_emulated() ? " emulated-svm" : "");
	enter(machine->vm.vcpus[0]);
}

static void add_text(struct bare_machine *machine, const struct kvm_run *run)
{
	const char *data = (const char *)run + run->io.data_offset;
	size_t len = (size_t)run->io.size * run->io.count;
	size_t room = sizeof(machine->text) - 1 - machine->text_bytes;

	len = len < room ? len : room;
	memcpy(machine->text + machine->text_bytes, data, len);
	machine->text_bytes += len;
}

static enum bare_verdict run(struct bare_machine *machine, struct vcpu *vcpu)
{
	for (;;) {
		uint32_t value = 0;
		int result = vcpu_run(vcpu);

		/* EAGAIN: it was waiting for its SIPI, and has been started. */
		if (result == -EINTR || result == -EAGAIN) {
			continue;
		}
		if (result != KVM_EXIT_IO || vcpu->run->io.direction != KVM_EXIT_IO_OUT) {
			fail("CPU %u: %s at RIP 0x%llx; it said: %s", vcpu->id,
			     result < 0 ? strerrorname_np(-result) : vm_exit_name((uint32_t)result),
			     (unsigned long long)vcpu_regs(vcpu).rip, machine->text);
		}
		memcpy(&value, (char *)vcpu->run + vcpu->run->io.data_offset, vcpu->run->io.size);
		if (vcpu->run->io.port == BARE_PORT_TEXT) {
			add_text(machine, vcpu->run);
		} else if (vcpu->run->io.port == BARE_PORT_SYNC) {
			machine->synced = value;
			return 0;
		} else if (vcpu->run->io.port == BARE_PORT_END) {
			return value;
		}
		/* Other ports have nothing behind them, as on a PC. */
	}
}

/* Ends the case as the guest ended, unless that passed. */
static void judge(struct bare_machine *machine, enum bare_verdict verdict)
{
	if (verdict == BARE_SKIPPED) {
		test_skip("%s", machine->text);
	} else if (verdict != BARE_PASSED && verdict != 0) {
		fail("the guest says: %s", machine->text);
	}
}

enum bare_verdict bare_run(struct bare_machine *machine)
{
	enum bare_verdict verdict = run(machine, machine->vm.vcpus[0]);

	judge(machine, verdict);
	return verdict;
}

static struct bare_machine *others_of;

static void *run_other(void *vcpu)
{
	for (;;) {
		enum bare_verdict verdict = run(others_of, vcpu);

		judge(others_of, verdict);
		if (verdict == BARE_PASSED) {
			fail("CPU %u ended the machine", ((struct vcpu *)vcpu)->id);
		}
	}
	return NULL;
}

void bare_run_others(struct bare_machine *machine)
{
	others_of = machine;
	for (unsigned int i = 1; i < machine->vm.vcpu_count; i++) {
		vcpu_in_thread(machine->vm.vcpus[i], run_other);
	}
}

void bare_run_case(const struct bare_listed *listed)
{
	static struct bare_machine machine;

	bare_machine_init(&machine, listed->name, listed->cpus,
			  (listed->needs & BARE_PC) != 0 ? IRQCHIP_FULL : IRQCHIP_SPLIT);
	bare_run_others(&machine);
	while (bare_run(&machine) == 0) {
		/* It syncs with nobody here. */
	}
	test_pass();
}
