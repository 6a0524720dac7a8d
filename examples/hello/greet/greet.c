/* greet [CONFIG]: greets whom the configuration names. */
#include <greet.h>

#include <stdio.h>
#include <string.h>
#include <yaml.h>

/* The value of the top-level key `name`, copied into out. */
static int read_name(FILE *file, char *out, size_t size)
{
    yaml_parser_t parser;
    yaml_document_t document;
    int found = 0;

    if (!yaml_parser_initialize(&parser))
        return 0;
    yaml_parser_set_input_file(&parser, file);
    if (yaml_parser_load(&parser, &document)) {
        yaml_node_t *root = yaml_document_get_root_node(&document);
        if (root && root->type == YAML_MAPPING_NODE) {
            yaml_node_pair_t *pair;
            for (pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
                yaml_node_t *key = yaml_document_get_node(&document, pair->key);
                yaml_node_t *value = yaml_document_get_node(&document, pair->value);
                if (key->type == YAML_SCALAR_NODE && value->type == YAML_SCALAR_NODE
                    && !strcmp((const char *)key->data.scalar.value, "name")) {
                    snprintf(out, size, "%s", (const char *)value->data.scalar.value);
                    found = 1;
                }
            }
        }
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    return found;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/etc/greet.yaml";
    char name[200] = "stranger", greeting[256];
    FILE *file = fopen(path, "r");

    if (file) {
        if (!read_name(file, name, sizeof name))
            fprintf(stderr, "greet: %s names nobody\n", path);
        fclose(file);
    }
    greet(name, greeting, sizeof greeting);
    puts(greeting);
    return 0;
}
