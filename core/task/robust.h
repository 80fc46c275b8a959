/*
 * What a thread leaves behind in user memory when it ends: locks it still held, and the word that
 * tells others that it has ended.
 */
#pragma once

/** robust_end() - for the current thread, before it leaves its process. */
void robust_end(void);
