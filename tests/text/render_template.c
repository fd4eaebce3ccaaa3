/* render_template TEMPLATE VALUES.json [NOW]: the rendering on standard output. For
 * make_templates.py, which compares it with the reference's. */
#include <stdio.h>
#include <stdlib.h>

#include "junto/template.h"

static char *read_file(const char *path, size_t *len)
{
    enum { MOST = 16 << 20 };
    FILE *file = fopen(path, "rb");
    char *text = malloc(MOST);
    *len = file && text ? fread(text, 1, MOST, file) : 0;
    if (file)
        fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    jt_template_limits limits = {.now = argc > 3 ? atoll(argv[3]) : 0};
    jt_template_value all = {0};
    jt_template *t = NULL;
    jt_err err = {0};
    size_t len, n;
    char *text;
    if (argc < 3)
        return 2;
    char *source = read_file(argv[1], &len), *values = read_file(argv[2], &all.len);
    all.data = values;
    jt_status status = jt_template_new(&t, source, len, &err);
    if (status == JT_OK)
        status = jt_template_render(t, &all, 1, &limits, &text, &n, &err);
    if (status == JT_OK) {
        fwrite(text, 1, n, stdout);
        free(text);
    } else {
        fprintf(stderr, "%s\n", err.msg);
    }
    jt_template_free(t);
    free(source);
    free(values);
    return status != JT_OK;
}
