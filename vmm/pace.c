#include "vmm/pace.h"

/*
 * Longer than this between two calls the guest had nothing to ask, or we did not get a CPU: what
 * was measured before says nothing of what comes.
 */
#define IDLE_NS UINT64_C(4000000)

/* Longer than this, and it was the guest: patience costs a time slice at most. */
#define ASLEEP_NS UINT64_C(16000000)

/* Patience that finds one request at a time has nothing to gain. */
#define TRIAL_CALLS 4

/* A try that turned out badly is followed by this many times the time it lost: 1 % is lost. */
#define AMORTIZED    100
#define LOSS_NS_MAX  UINT64_C(3000000) /* so that it is tried every 300 ms at least */
#define WAIT_NS_MIN  UINT64_C(10000000)
#define GAIN_PERCENT 12 /* less is not clearly better */

void pace_init(struct pace *p)
{
	*p = (struct pace){.step = PACE_EAGER};
}

static bool enter(struct pace *p, enum pace_step step, uint64_t now_ns)
{
	p->step = step;
	p->began_ns = now_ns;
	p->requests = 0;
	p->calls = 0;
	return step != PACE_EAGER;
}

static void wait_for(struct pace *p, uint64_t loss_ns, uint64_t now_ns)
{
	p->next_try_ns = now_ns + MAX(AMORTIZED * MIN(loss_ns, LOSS_NS_MAX), WAIT_NS_MIN);
}

/* Patience took @ns for what would have taken @expected_ns. */
static bool patience_lost(struct pace *p, uint64_t ns, uint64_t expected_ns, uint64_t now_ns)
{
	wait_for(p, ns > expected_ns ? ns - expected_ns : 0, now_ns);
	return enter(p, PACE_EAGER, now_ns);
}

static bool eager_served(struct pace *p, uint64_t ns, uint64_t now_ns)
{
	if (p->requests < PACE_WINDOW) {
		return false;
	}
	p->eager_ns = ns * PACE_WINDOW / p->requests;
	return enter(p, now_ns >= p->next_try_ns ? PACE_TRIAL : PACE_EAGER, now_ns);
}

static bool trial_served(struct pace *p, uint64_t ns, uint64_t now_ns)
{
	uint64_t expected_ns = p->eager_ns * p->requests / PACE_WINDOW;

	if (p->requests < PACE_WINDOW) {
		bool useless = p->calls >= TRIAL_CALLS && p->requests < 2 * p->calls;

		return useless || ns > p->eager_ns ? patience_lost(p, ns, expected_ns, now_ns)
						   : true;
	}
	if (ns * 100 > expected_ns * (100 - GAIN_PERCENT)) {
		return patience_lost(p, ns, expected_ns, now_ns);
	}
	p->patient_ns = ns * PACE_WINDOW / p->requests;
	wait_for(p, p->eager_ns - p->patient_ns, now_ns);
	return enter(p, PACE_PATIENT, now_ns);
}

static bool patient_served(struct pace *p, uint64_t ns, uint64_t now_ns)
{
	if (p->requests < PACE_WINDOW) {
		/* What was gained before is no more: is there less to do, or too little CPU? */
		return ns > 2 * p->patient_ns
			       ? patience_lost(p, ns, p->patient_ns * p->requests / PACE_WINDOW,
					       now_ns)
			       : true;
	}
	/* The eager way is tried again by one window, which a trial follows at once. */
	return enter(p, now_ns >= p->next_try_ns ? PACE_EAGER : PACE_PATIENT, now_ns);
}

bool pace_served(struct pace *p, unsigned requests, uint64_t now_ns)
{
	uint64_t quiet_ns = now_ns - p->last_ns;
	uint64_t ns = now_ns - p->began_ns;

	p->last_ns = now_ns;
	if (quiet_ns > (p->step == PACE_TRIAL ? ASLEEP_NS : IDLE_NS)) {
		if (p->step == PACE_PATIENT) {
			p->next_try_ns = now_ns;
		}
		return enter(p, PACE_EAGER, now_ns);
	}
	p->requests += requests;
	p->calls++;
	switch (p->step) {
	case PACE_EAGER:
		return eager_served(p, ns, now_ns);
	case PACE_TRIAL:
		return trial_served(p, ns, now_ns);
	default:
		return patient_served(p, ns, now_ns);
	}
}
