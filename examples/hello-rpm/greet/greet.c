/* greet [CONFIG]: greets whom the configuration names. */
#include <greet.h>

#include <ini.h>
#include <stdio.h>
#include <string.h>

struct name {
    char text[200];
};

/* One setting of the configuration: only the key `name` before any section counts. */
static int setting(void *into, const char *section, const char *key, const char *value)
{
    struct name *name = into;

    if (!*section && !strcmp(key, "name"))
        snprintf(name->text, sizeof name->text, "%s", value);
    return 1;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/etc/greet.ini";
    struct name name = { "" };
    char greeting[256];

    /* No file at all is fine: then there is only a stranger. */
    if (ini_parse(path, setting, &name) >= 0 && !*name.text)
        fprintf(stderr, "greet: %s names nobody\n", path);
    greet(*name.text ? name.text : "stranger", greeting, sizeof greeting);
    puts(greeting);
    return 0;
}
