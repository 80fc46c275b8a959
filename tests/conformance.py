#!/usr/bin/env python3
"""Runs the conformance suite (tests/kvm) on a provider, and ends with one line: N passed, N failed,
N skipped.

usage: tests/conformance.py [--table] PROVIDER [CASE]...

  kvm   Linux KVM: this machine's where it has VMX or SVM, else the lab's
  core  Yado's own kernel, on an emulated bare machine; core:ryzen and core:bx_generic on the CPUs
        of Bochs, without the cases that Bochs itself gets wrong
  soft  Yado's own in software, on this machine; soft:interpret, soft:translate and
        soft:translate-checked choose its engine; soft:translate-small is the latter with a cache
        for code that is full all the time
  tcg   no provider at all: QEMU's TCG runs the bare payloads as a machine, a second opinion

CASE is a name, an area or a pattern ("slots/*"). Results go to build/conformance/PROVIDER.txt.
With --table those of a whole run go into docs/conformance.md, too. The exit status is 1 if a case
failed.
"""

import collections
import concurrent.futures
import fnmatch
import functools
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import debian  # noqa: E402

SUITE = 'build/tests/kvm/conformance'
IMAGE = os.path.join(debian.ROOT, 'build/tests/guest/bare/bare.elf')
OUT = os.path.join(debian.ROOT, 'build/conformance')
TABLE = os.path.join(debian.ROOT, 'docs/conformance.md')
ENGINES = ['soft:interpret', 'soft:translate', 'soft:translate-checked', 'soft:translate-small']
BOCHS_CPUS = ['ryzen', 'bx_generic']
COLUMNS = ['kvm', 'core', 'soft', 'tcg']
SUITE_SECONDS = 1500
BARE_SECONDS = 60
QEMU = ['-accel', 'tcg', '-M', 'q35', '-cpu', 'max', '-smp', '4', '-m', '64', '-nodefaults',
        '-display', 'none', '-no-reboot', '-debugcon', 'stdio', '-device',
        'isa-debug-exit,iobase=0xf4,iosize=4', '-kernel', IMAGE]
VERDICTS = {3: 'ok', 5: 'FAIL', 7: 'skip'}  # what isa-debug-exit makes of enum bare_verdict

# What Bochs 2.7 gets wrong for guests, whoever is their hypervisor; docs/core.md says more.
BOCHS_CANNOT = [
    # VMRUN takes RFLAGS before it is in guest mode: without IF the machine's interrupts are off,
    # with it a window that is asked for does not open.
    'run/signal_ends_run', 'run/signal_handler_asks_for_exit', 'run/signal_mask_blocks_in_the_guest',
    'run/interrupt_window_is_an_exit', 'inject/window_that_is_open_is_an_exit',
    'events/exception_before_nmi',
    # A triple fault breaks into Bochs' debugger.
    'exceptions/triple_fault_*', 'events/absent_idt_is_a_shutdown', 'run/triple_fault_is_a_shutdown',
    'run/vcpu_runs_again_after_shutdown', 'run/shutdown_is_of_one_vcpu',
    # An intercepted #DB has not reached DR6 yet.
    'exceptions/general_detect', 'exceptions/single_step', 'exceptions/breakpoint_registers',
    'exceptions/execute_breakpoint', 'exceptions/write_breakpoint', '*/keeps_a_watchpoint',
    'debug/blockirq_keeps_interrupts_waiting', 'debug/execute_breakpoint', 'debug/write_breakpoint',
    'debug/breakpoint_of_the_guests_registers', 'inject/nmi_waits_for_iret', 'inject/nmi_one_waits',
    'moved/with_a_blocked_nmi',
    # A step that #VMEXIT cuts off traps behind it, in the host, which has not its GS yet.
    'debug/step_*', 'moved/at_every_instruction',
    # VMRUN does not load CR2.
    'events/page_fault_finds_cr2', 'events/payload_of_a_page_fault_is_cr2',
    'mmio/fault_in_the_second_page', 'pio/*_stops_at_a_fault', 'moved/keeps_control_registers',
    'state/segment_bases_reach_the_guest',
    # A write to CR0 that ends long mode has cleared EFER.LMA when it is intercepted.
    'modes/v86_*', 'modes/task_switch', 'modes/sysenter', 'modes/return_to_outer',
    'modes/conforming', 'modes/call_gate', 'modes/arpl', 'modes/lar_lsl_verr',
    'modes/null_segment', 'modes/segment_types', 'modes/expand_down', 'modes/segment_limit',
    'modes/segment_base', 'modes/real_*', 'paging/pae_*', 'paging/page_4m*', 'paging/two_levels*',
    'self/modes_come_back', '*/keeps_real_mode', '*/keeps_protected_mode',
    # Not of guests only: IRETD and IRETW to the same CPL pop no SS and RSP in 64-bit mode, SYSENTER
    # is no #UD in long mode on an AMD CPU, and AC excuses implicit accesses from SMAP.
    'modes/iret_widths', 'modes/sysenter_in_long_mode', 'paging/smap_implicit',
]
# The first reason, of two vCPUs on one CPU: ryzen intercepts their PAUSE, bx_generic does not.
BX_GENERIC_CANNOT = [
    'smp', 'ipi/nmi_*', 'ipi/init_level_deassert_does_nothing', 'ipi/init_resets_a_running_cpu',
    'ipi/after_init_a_cpu_waits_for_sipi', 'ipi/sipi_to_a_running_cpu_is_ignored',
    '*/keeps_other_cpus', '*/keeps_waiting_cpus', 'code/cross_modifying', 'code/patch_by_breakpoint',
    'ioapic/*_destination', 'paging/shootdown', 'paging/present_by_other_cpu',
]

Result = collections.namedtuple('Result', 'verdict reason')


def listed():
    """{case: where its rule stands}, in the suite's order."""
    shown = debian.run([os.path.join(debian.ROOT, SUITE), '--list'], 'the list of cases')
    return dict(line.split('\t', 1) for line in shown.splitlines())


def picker(words):
    return lambda name: not words or any(
        fnmatch.fnmatch(name, word) or name.startswith(word + '/') for word in words)


def parsed(text):
    """{name: Result} of what the suite says."""
    found = re.findall(r'^(ok|FAIL|skip) +([\w./-]+)(?:: (.*))?$', text, re.MULTILINE)
    return {name: Result(verdict, reason.strip()) for verdict, name, reason in found}


def shown(name, result):
    return f'{result.verdict:6}{name}{": " if result.reason else ""}{result.reason}'


def bochs_cannot(cpu):
    return BOCHS_CANNOT + (BX_GENERIC_CANNOT if cpu == 'bx_generic' else [])


# ---- providers ----

def run_suite(lab, *arguments, say=None, seconds=SUITE_SECONDS):
    """Runs the suite in a Lab; say() gets the text as it comes. Return: (exit status, text)."""
    program = lab.start('./conformance', *arguments)
    told, deadline = 0, time.monotonic() + seconds
    while True:
        code = program.code
        text = bytes(program.output).decode(errors='replace')
        if say:
            say(text[told:])
            told = len(text)
        if code is not None:
            return code, text + program.error.decode(errors='replace')
        if time.monotonic() > deadline:
            raise debian.Failed(f'the suite was not done after {seconds} s; it said last: '
                                f'{text.splitlines()[-1:]}')
        program.wait_activity(1)


def run_kvm(words, say):
    from tests.system import frame
    lab = frame.Lab(guest=False, files=[SUITE])
    try:
        code, text = run_suite(lab, *words, say=lambda part: say(part, end=''))
    except frame.Died as error:
        raise debian.Failed(f'the lab died: {error}') from error
    finally:
        lab.close()
    results = parsed(text)
    if code not in (0, 1) or not re.search(r'\d+ passed, \d+ failed, \d+ skipped\n', text):
        raise debian.Failed(f'the suite ended with {code}: {text[-300:].strip()}')
    return results


def run_core(words, say, cpus=1, bochs_cpu=None):
    """`bochs_cpu`: a model of Bochs; None: in QEMU."""
    from lab import bochs, metal
    options = metal.Options()
    options.cpus = cpus
    if bochs_cpu:
        options.cpu = bochs_cpu
        words = [*words, *(f'--except={case}' for case in bochs_cannot(bochs_cpu))]
    code, text = metal.run(os.path.join(debian.ROOT, SUITE), *words, options=options,
                           seconds=SUITE_SECONDS,
                           emulator=bochs.Machine if bochs_cpu else metal.Machine,
                           say=lambda part: say(part, end=''))
    if code not in (0, 1) or not re.search(r'\d+ passed, \d+ failed, \d+ skipped\n', text):
        raise debian.Failed(f'the suite ended with {code}: {text[-300:].strip()}')
    return parsed(text)


def run_soft(words, say, engine='soft'):
    program = os.path.join(debian.ROOT, SUITE + '-soft')
    done = subprocess.Popen([program, '--device', engine, *words], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    text = ''
    for line in done.stdout:
        say(line, end='')
        text += line
    if done.wait() not in (0, 1):
        raise debian.Failed(f'the suite ended with {done.returncode}: {text[-300:].strip()}')
    return parsed(text)


def run_bare(name):
    """One bare payload on a machine without a provider."""
    qemu = debian.needs('qemu-system-x86_64', 'qemu-system-x86')
    try:
        done = subprocess.run([qemu, *QEMU, '-append', name], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=BARE_SECONDS)
    except subprocess.TimeoutExpired:
        return Result('FAIL', f'not done after {BARE_SECONDS} s')
    text = ' '.join(done.stdout.decode(errors='replace').split())
    if done.returncode not in VERDICTS:
        return Result('FAIL', f'QEMU ended with {done.returncode}: {text[-200:]}')
    return Result(VERDICTS[done.returncode], text)


def run_tcg(words, say):
    shown_ = debian.run([os.path.join(debian.ROOT, SUITE), '--list-bare'], 'the list of payloads')
    names = [name for name in shown_.split() if picker(words)(name)]
    results = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, result in zip(names, pool.map(run_bare, names)):
            results[name] = result
            say(shown(name, result) + '\n', end='')
    say(counts(results) + '\n', end='')
    return results


PROVIDERS = {'kvm': run_kvm, 'core': run_core, 'soft': run_soft, 'tcg': run_tcg,
             **{f'core:{cpu}': functools.partial(run_core, bochs_cpu=cpu) for cpu in BOCHS_CPUS},
             **{engine: functools.partial(run_soft, engine=engine) for engine in ENGINES}}


def counts(results):
    number = collections.Counter(result.verdict for result in results.values())
    return f'{number["ok"]} passed, {number["FAIL"]} failed, {number["skip"]} skipped'


# ---- the table in docs ----

HEAD = '''# Conformance

What every provider of the contract must do, case by case, and who does it. `make conformance PROVIDER=kvm` runs the suite (`tests/kvm`) on
Linux KVM, the oracle: a case is right only if Linux passes it. `tcg` is QEMU's TCG without any provider, as a second opinion on the bare
payloads; a dash is a case that does not exist there, or a provider that was not asked. A skipped case says why below its table.

This file is written by `tests/conformance.py --table`; a test compares it with what the suite says.
'''


def read_table():
    """{(case, provider): verdict}, {(case, provider): reason} from docs/conformance.md."""
    if not os.path.exists(TABLE):
        return {}
    with open(TABLE) as f:
        text = f.read()
    results = {}
    for name, cells in re.findall(r'^\| `([^`]+)` \| [^|]* \|(.*)\|$', text, re.MULTILINE):
        for provider, cell in zip(COLUMNS, cells.split('|')):
            if cell.strip() != '-':
                results[name, provider] = Result(cell.strip(), '')
    for name, provider, reason in re.findall(r'^- `([^`]+)` on (\w+): (.*)$', text, re.MULTILINE):
        if (name, provider) in results:
            results[name, provider] = Result(results[name, provider].verdict, reason)
    return results


def written(specs, results):
    """The whole of docs/conformance.md."""
    areas = collections.OrderedDict()
    for name in specs:
        areas.setdefault(name.split('/')[0], []).append(name)
    none = Result('-', '')
    lines = [HEAD, '| area | cases | ' + ' | '.join(COLUMNS) + ' |',
             '|---|---|' + '---|' * len(COLUMNS)]

    def passed(names, provider):
        number = sum(results.get((name, provider), none).verdict == 'ok' for name in names)
        known = any((name, provider) in results for name in names)
        return str(number) if known else '-'

    for area, names in [*areas.items(), ('all', list(specs))]:
        lines.append(f'| {area} | {len(names)} | ' +
                     ' | '.join(passed(names, provider) for provider in COLUMNS) + ' |')
    for area, names in areas.items():
        lines += ['', f'## {area}', '', '| case | the rule stands in | ' + ' | '.join(COLUMNS) + ' |',
                  '|---|---|' + '---|' * len(COLUMNS)]
        reasons = []
        for name in names:
            cells = [results.get((name, provider), none) for provider in COLUMNS]
            lines.append(f'| `{name}` | {specs[name]} | ' +
                         ' | '.join(cell.verdict for cell in cells) + ' |')
            reasons += [f'- `{name}` on {provider}: {cell.reason}'
                        for provider, cell in zip(COLUMNS, cells) if cell.reason]
        lines += ['', *reasons] if reasons else []
    return '\n'.join(lines) + '\n'


def write_table(provider, results):
    specs = listed()
    known = {(name, other): result for (name, other), result in read_table().items()
             if other != provider}
    known.update({(name, provider): result for name, result in results.items()})
    with open(TABLE, 'w') as f:
        f.write(written(specs, known))


def stale(provider, results, but=()):
    """What is wrong with the table, in one line, or None. `but`: cases that are not compared."""
    table = {name: result.verdict for (name, other), result in read_table().items()
             if other == provider}
    now = {name: result.verdict for name, result in results.items()}
    for name in sorted((set(table) | set(now)) - set(but)):
        if table.get(name) != now.get(name):
            return (f'docs/conformance.md says "{table.get(name)}" of {name} on {provider}, which '
                    f'is "{now.get(name)}"; tests/conformance.py --table {provider} renews it')
    return None


def main():
    words = sys.argv[1:]
    if not words or '--help' in words or '-h' in words:
        print(__doc__.strip())
        return 0 if words else 2
    table = words[0] == '--table'
    provider, *cases = words[table:] or ['']
    if provider not in PROVIDERS or (table and (cases or provider not in COLUMNS)):
        debian.say(f'there is no provider "{provider}"; there are: {", ".join(PROVIDERS)}'
                   if provider not in PROVIDERS else '--table wants a column, and no CASE')
        return 2
    try:
        if not os.path.exists(os.path.join(debian.ROOT, SUITE)):
            raise debian.Failed(f'{SUITE} is missing; make build')
        for case in cases:
            if not any(map(picker([case]), listed())):
                debian.say(f'no case is called "{case}"; see {SUITE} --list')
                return 2
        results = PROVIDERS[provider](cases, lambda text, end: print(text, end=end, flush=True))
        os.makedirs(OUT, exist_ok=True)
        with open(os.path.join(OUT, provider + '.txt'), 'w') as f:
            f.writelines(shown(name, result) + '\n' for name, result in results.items())
        if table:
            write_table(provider, results)
    except debian.Failed as error:
        debian.say(error)
        return 1
    return 1 if any(result.verdict == 'FAIL' for result in results.values()) else 0


if __name__ == '__main__':
    sys.exit(main())
