#ifndef GREET_H
#define GREET_H

#include <stddef.h>

/* Writes "Hello, NAME!" into out, as much as fits, always terminated. Gives the length that the
 * whole greeting has. */
size_t greet(const char *name, char *out, size_t size);

#endif
