#include "golden.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "vocab_file.h"

char *golden_read(const char *name, size_t *bytes)
{
    char path[4096], *data;
    const char *root = getenv("JUNTO_TEST_DATA");
    assert_non_null(root);
    snprintf(path, sizeof path, "%s/text/data/%s", root, name);
    jt_err err = {0};
    if (jt_read_file(&data, bytes, path, 1 << 24, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return data;
}

jt_tokenizer *golden_tokenizer(const char *name, const char *pre)
{
    size_t bytes;
    char *data = golden_read(name, &bytes);
    jt_err err = {0};
    jt_gguf *file;
    if (jt_gguf_open_memory(&file, data, bytes, &err) != JT_OK)
        fail_msg("%s: %s", name, err.msg);
    vocab_file v = {0};
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++)
        vocab_copy(&v, jt_gguf_kv_at(file, i));
    if (pre)
        vocab_str(&v, "tokenizer.ggml.pre", pre);
    jt_gguf_close(file);
    free(data);
    jt_tokenizer *tok = NULL;
    if (vocab_tokenizer(&tok, &v, &err) != JT_OK)
        fail_msg("%s, %s: %s", name, pre ? pre : "", err.msg);
    vocab_free(&v);
    return tok;
}

size_t golden_unescape(char *line, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (line[i] != '\\') {
            line[n++] = line[i];
            continue;
        }
        assert_true(i + 3 < len && line[i + 1] == 'x');
        char digits[] = {line[i + 2], line[i + 3], '\0'};
        line[n++] = (char)strtol(digits, NULL, 16);
        i += 3;
    }
    return n;
}
