/*
 * The files that say which VMs there are: what `yado run --config` reads, one VM each.
 */
#pragma once

#include "cli/config.h"
#include "cli/host_facts.h"

#define VM_FILE_NAME   65 /* a VM's name, with its NUL */
#define VM_FILE_PATH   256
#define VM_FILE_REASON 256
#define VM_FILES_MAX   64

struct vm_file {
	char name[VM_FILE_NAME]; /* as the file says, or the file's own without ".json" */
	char path[VM_FILE_PATH];
	char reason[VM_FILE_REASON]; /* why the VM cannot be; empty if it can */
	struct cli_config config;
};

/**
 * vm_file_list() - the names of the files that end in ".json", sorted.
 * @names: each to be freed, and the array.
 * Return: how many, or -errno, not logged.
 */
must_use int vm_file_list(const char *directory, char ***names);

/**
 * vm_file_load() - reads and checks a file. What is wrong goes into @f->reason, in one line.
 * @facts: what one VM must not want more of.
 * It uses the log's sink for a moment; see log_set_sink().
 */
void vm_file_load(struct vm_file *f, const char *directory, const char *name,
		  const struct host_facts *facts);

void vm_file_fini(struct vm_file *f);

/**
 * vm_file_conflict() - can the two VMs not be there at once, as they use a disk that one of them
 * writes? Return: the disk's path as @f has it, or NULL.
 */
const char *vm_file_conflict(const struct vm_file *f, const struct vm_file *other);
