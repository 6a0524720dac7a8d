/* The greeting is one line without an end. */
#include "greet.h"

#include <stdio.h>

size_t greet(const char *name, char *out, size_t size)
{
    int length = snprintf(out, size, "%s!", name);
    return length < 0 ? 0 : (size_t)length;
}
