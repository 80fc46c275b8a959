#include "vmm/watch.h"

#include <unistd.h>

void watch_init(struct watch *w, struct loop *loop, int fd, void (*fn)(void *arg, uint32_t events),
		void *arg)
{
	*w = (struct watch){.source = {.fd = fd, .fn = fn, .arg = arg}, .loop = loop};
}

int watch_set(struct watch *w, uint32_t events)
{
	int error = 0;

	if (events == w->events) {
		return 0;
	}
	if (events == 0) {
		loop_del(w->loop, &w->source);
	} else if (w->events == 0) {
		error = loop_add(w->loop, &w->source, events);
	} else {
		loop_mod(w->loop, &w->source, events);
	}
	if (error == 0) {
		w->events = events;
	}
	return error;
}

void watch_fini(struct watch *w)
{
	if (w->loop != NULL && w->source.fd >= 0) {
		(void)watch_set(w, 0);
		close(w->source.fd);
		w->source.fd = -1;
	}
}
