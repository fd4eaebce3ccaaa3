#include "import_folder.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "scratch.h"
#include "text/import.h"

static jt_status write_keys(const char *path, const char *folder, jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, err));
    jt_status status = jt_tokenizer_import(w, folder, err);
    if (status == JT_OK)
        return jt_gguf_writer_finish(w, err);
    jt_gguf_writer_abort(w);
    return status;
}

jt_status import_any(jt_tokenizer **out, jt_gguf **file, const char *folder,
                     jt_err *err)
{
    scratch folder_of_keys = scratch_new();
    const char *path = scratch_path(&folder_of_keys, "keys.gguf");
    jt_gguf *keys = NULL;
    jt_status status = write_keys(path, folder, err);
    if (status == JT_OK)
        status = jt_gguf_open(&keys, path, err);
    scratch_free(&folder_of_keys);
    if (status == JT_OK)
        status = jt_tokenizer_new(out, keys, err);
    if (file && status == JT_OK)
        *file = keys;
    else
        jt_gguf_close(keys);
    return status;
}

jt_tokenizer *import_folder(const char *name)
{
    char folder[4096];
    const char *root = getenv("JUNTO_TEST_DATA");
    assert_non_null(root);
    snprintf(folder, sizeof folder, "%s/text/data/folders/%s", root, name);
    jt_tokenizer *tok = NULL;
    jt_err err = {0};
    if (import_any(&tok, NULL, folder, &err) != JT_OK)
        fail_msg("%s: %s", name, err.msg);
    return tok;
}

char *import_read(const char *path, size_t *bytes)
{
    char *data = NULL;
    jt_err err = {0};
    if (jt_read_file(&data, bytes, path, 1 << 26, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return data;
}
