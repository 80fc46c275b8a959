/*
 * Epoll: many files watched by one.
 */
#pragma once

struct file;

void epoll_init(void);

/** epoll_forget() - the file has no references any more: nobody watches it. */
void epoll_forget(struct file *f);
