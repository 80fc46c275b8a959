/*
 * Threads of the VMM beside the main one: with a stack of known size, and deaf to the process's
 * signals.
 */
#pragma once

#include <pthread.h>

#include "lib/base/types.h"

/**
 * thread_start() - runs @fn(@arg) in a new thread.
 * @signal: one that the thread takes nevertheless, or 0. It also takes those that only its own
 * faults bring about, so that their handlers can restore the terminal.
 * Return: 0 or -errno.
 */
must_use int thread_start(pthread_t *thread, int signal, void *(*fn)(void *arg), void *arg);
