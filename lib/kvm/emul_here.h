/*
 * The emulator called in place: for backends where whoever runs lib/kvm may run lib/insn, too.
 */
#pragma once

#include "lib/insn/emulate.h"
#include "lib/kvm/vcpu.h"

/**
 * kvm_emulate_here() - what env->emulate() does.
 * @other: insn_do_other(), or NULL; see struct insn_env.
 */
must_use enum insn_outcome kvm_emulate_here(struct kvm_vcpu *vcpu, insn_family_fn *other);
