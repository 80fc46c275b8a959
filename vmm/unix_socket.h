/*
 * Unix stream sockets that yado listens on: a stale one is replaced, a live one is not.
 */
#pragma once

#include "lib/base/types.h"

/**
 * unix_socket_check() - could a socket be made at @path?
 * @what: what a message starts with, such as "--console".
 * Return: 0; -ENAMETOOLONG; -EEXIST if something else is there; -EADDRINUSE if a program listens
 * there; -ENOENT, -EACCES and the like without such a directory. Logged.
 */
must_use int unix_socket_check(const char *what, const char *path);

/**
 * unix_socket_listen() - makes it, for this user only (mode 0600), close-on-exec and non-blocking.
 * Return: 0 with *@fd, or what unix_socket_check() gives.
 */
must_use int unix_socket_listen(const char *what, const char *path, int *fd);
