#include "vmm/lock.h"

#include "tests/unit.h"

static void setup_three(struct lock *bus, struct lock *device, struct lock *leaf)
{
	lock_init(bus, LOCK_PCI_BUS);
	lock_init(device, LOCK_DEVICE);
	lock_init(leaf, LOCK_LEAF);
}

static void test_order(void **state)
{
	struct lock bus, device, leaf;

	(void)state;
	setup_three(&bus, &device, &leaf);
	lock_take(&bus);
	lock_take(&device);
	lock_take(&leaf);
	/* Given in any order. */
	lock_give(&device);
	lock_give(&bus);
	lock_give(&leaf);
	lock_take(&device);
	lock_take(&leaf);
	lock_give(&leaf);
	lock_give(&device);
	lock_fini(&bus);
	lock_fini(&device);
	lock_fini(&leaf);
}

static void test_wrong_order_is_told(void **state)
{
	struct lock bus, device, leaf, other;

	(void)state;
	if (!DEBUG_LOCKS) {
		skip();
	}
	setup_three(&bus, &device, &leaf);
	lock_init(&other, LOCK_DEVICE);
	lock_take(&device);
	expect_assert_failure(lock_take(&bus));
	expect_assert_failure(lock_take(&other)); /* the same rank */
	expect_assert_failure(lock_take(&device));
	expect_assert_failure(lock_give(&bus));
	lock_give(&device);
	expect_assert_failure(lock_give(&device));
	/* What was refused was not taken. */
	lock_take(&bus);
	lock_take(&other);
	lock_give(&other);
	lock_give(&bus);
	lock_fini(&bus);
	lock_fini(&device);
	lock_fini(&leaf);
	lock_fini(&other);
}

/* Two threads of a game: each in turn moves the ball. */
struct ball {
	struct lock lock;
	pthread_cond_t moved;
	unsigned turn;
	unsigned moves;
};

#define MOVES 1000

static void play(struct ball *b, unsigned self)
{
	lock_take(&b->lock);
	while (b->moves < MOVES) {
		if (b->turn != self) {
			lock_wait(&b->lock, &b->moved);
			continue;
		}
		b->moves++;
		b->turn = 1 - self;
		pthread_cond_broadcast(&b->moved);
	}
	lock_give(&b->lock);
}

static void *second_player(void *arg)
{
	play(arg, 1);
	return NULL;
}

static void test_wait(void **state)
{
	struct ball b = {.moved = PTHREAD_COND_INITIALIZER};
	struct lock leaf;
	pthread_t thread;

	(void)state;
	lock_init(&b.lock, LOCK_DEVICE);
	assert_int_equal(pthread_create(&thread, NULL, second_player, &b), 0);
	play(&b, 0);
	pthread_join(thread, NULL);
	assert_int_equal(b.moves, MOVES);

	if (DEBUG_LOCKS) {
		lock_init(&leaf, LOCK_LEAF);
		expect_assert_failure(lock_wait(&b.lock, &b.moved)); /* not held */
		lock_take(&b.lock);
		lock_take(&leaf);
		expect_assert_failure(lock_wait(&b.lock, &b.moved)); /* with another one */
		lock_give(&leaf);
		lock_give(&b.lock);
		lock_fini(&leaf);
	}
	lock_fini(&b.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_wrong_order_is_told),
		cmocka_unit_test(test_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
