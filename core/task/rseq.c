#include "core/task/rseq.h"

#include <asm/signal.h>
#include <errno.h>
#include <linux/rseq.h>

#include "core/hw/entry.h"
#include "core/hw/user.h"
#include "core/log.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"

#define RSEQ_BYTES 32

_Static_assert(sizeof(struct rseq) == RSEQ_BYTES && sizeof(struct rseq_cs) == 32, "Linux 6.1");

/* The one that ring 3 has announced. Return: 1; 0: there is none; -errno: it is not in order. */
static int read_section(const struct thread *t, struct rseq_cs *cs)
{
	uint32_t signature;
	uint64_t at;

	if (user_get64(t->rseq + offsetof(struct rseq, rseq_cs), &at) != 0) {
		return -EFAULT;
	}
	if (at == 0) {
		return 0;
	}
	if (user_read(cs, at, sizeof(*cs)) != 0 || user_get32(cs->abort_ip - 4, &signature) != 0) {
		return -EFAULT;
	}
	if (cs->version != 0 || !user_range_ok(cs->start_ip, cs->post_commit_offset) ||
	    !user_range_ok(cs->abort_ip, 1) ||
	    cs->abort_ip - cs->start_ip < cs->post_commit_offset ||
	    signature != t->rseq_signature) {
		return -EINVAL;
	}
	return 1;
}

static int end_section(const struct thread *t, struct user_frame *frame)
{
	struct rseq_cs cs;
	uint32_t flags;
	int found = read_section(t, &cs);

	if (found <= 0) {
		return found;
	}
	if (frame->rip - cs.start_ip < cs.post_commit_offset) {
		/* Those that Linux once had said when it is not to be aborted. */
		if (user_get32(t->rseq + offsetof(struct rseq, flags), &flags) != 0 ||
		    (flags | cs.flags) != 0) {
			return -EINVAL;
		}
		frame->rip = cs.abort_ip;
	}
	return user_put64(t->rseq + offsetof(struct rseq, rseq_cs), 0);
}

/* Both numbers at once. */
static int put_cpu(uint64_t at, uint32_t start, uint32_t cpu)
{
	_Static_assert(offsetof(struct rseq, cpu_id_start) == 0 &&
			       offsetof(struct rseq, cpu_id) == 4,
		       "one word");
	return user_put64(at, (uint64_t)cpu << 32 | start);
}

bool rseq_resume(struct user_frame *frame)
{
	struct thread *t = thread_current();
	int error = 0;

	if (t->rseq == 0) {
		return true;
	}
	if (frame != NULL) {
		error = end_section(t, frame);
	}
	/* If it sleeps on the way and goes on elsewhere, all of this comes once more. */
	if (error == 0) {
		error = put_cpu(t->rseq, cpu_index(), cpu_index());
	}
	if (error != 0) {
		log_program("%s[%d]: its struct rseq at 0x%llx, or what that leads to, is wrong",
			    t->name, t->tid, (unsigned long long)t->rseq);
		process_exit(t->process, SIGSEGV);
	}
	return error == 0;
}

static int64_t forget(struct thread *t, const uint64_t a[6])
{
	if (t->rseq == 0 || a[0] != t->rseq || (uint32_t)a[1] != RSEQ_BYTES) {
		return -EINVAL;
	}
	if ((uint32_t)a[3] != t->rseq_signature) {
		return -EPERM;
	}
	if (put_cpu(t->rseq, 0, (uint32_t)RSEQ_CPU_ID_UNINITIALIZED) != 0) {
		return -EFAULT;
	}
	t->rseq = 0;
	return 0;
}

SYSCALL(rseq)
{
	struct thread *t = thread_current();
	uint32_t flags = (uint32_t)a[2], length = (uint32_t)a[1];

	if (flags == RSEQ_FLAG_UNREGISTER) {
		return forget(t, a);
	}
	if (flags != 0 || length != RSEQ_BYTES) {
		return -EINVAL;
	}
	if (t->rseq != 0) {
		return a[0] != t->rseq			     ? -EINVAL
		       : (uint32_t)a[3] != t->rseq_signature ? -EPERM
							     : -EBUSY;
	}
	if (a[0] % _Alignof(struct rseq) != 0) {
		return -EINVAL;
	}
	if (!user_range_ok(a[0], RSEQ_BYTES)) {
		return -EFAULT;
	}
	t->rseq = a[0];
	t->rseq_signature = (uint32_t)a[3];
	/* The first number is there when this call is done. */
	atomic_fetch_or(&cpu_this()->work, CPU_WORK_ARRIVED);
	return 0;
}
