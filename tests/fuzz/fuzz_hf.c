/* Any config.json, up to the first NUL byte, beside any safetensors file, the rest:
 * refused with a message, or opened, read in full, loaded, and written as a folder. */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "junto/convert.h"
#include "junto/model.h"
#include "scratch.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(jt_status status, const jt_err *err)
{
    WALK_CHECK(err->code == status && err->msg[0]);
    for (const char *p = err->msg; *p; p++)
        WALK_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void open_folder(const scratch *folder)
{
    jt_err err = {0};
    jt_gguf *file = NULL;
    jt_model *model = NULL;
    jt_status status = jt_model_open_file(&file, folder->dir, &err);
    if (status != JT_OK) {
        check_message(status, &err);
        return;
    }
    walk_file(file);
    jt_gguf_close(file);
    status = jt_model_load(&model, folder->dir, &err);
    if (status != JT_OK)
        check_message(status, &err);
    jt_model_free(model);
    jt_convert_options o = {0};
    scratch back;
    snprintf(back.dir, sizeof back.dir, "%.190s-back", folder->dir);
    status = jt_convert(folder->dir, back.dir, &o, NULL, &err);
    if (status != JT_OK)
        check_message(status, &err);
    else
        scratch_free(&back);
}

static scratch s;

static void clean_up(void)
{
    scratch_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = memchr(data, 0, size);
    size_t config = nul ? (size_t)(nul - data) : size;
    size_t rest = nul ? size - config - 1 : 0;
    if (!s.dir[0]) {
        s = scratch_new();
        atexit(clean_up);
    }
    scratch_write(scratch_path(&s, "config.json"), data, config);
    scratch_write(scratch_path(&s, "model.safetensors"), nul ? nul + 1 : data, rest);
    open_folder(&s);
    return 0;
}
