/* Any bytes as a vocabulary of another format, which the first byte chooses: refused
 * with a message, or imported, and then used when a tokenizer can be built of it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "junto/tokenizer.h"
#include "scratch.h"
#include "text/import.h"

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

static const char *const files[] = {"tokenizer.json", "tekken.json", "tokenizer.model",
                                    "tiktoken.model", "tokenizer_config.json"};
enum { FILES = sizeof files / sizeof *files, CONFIG = FILES - 1 };

/* Beside which a configuration is read. */
static const char small[] = "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, "
                            "\"b\": 1}, \"merges\": []}}";

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

static void check_refusal(jt_status status, const jt_err *err)
{
    CHECK(err->code == status && err->msg[0]);
    for (const char *p = err->msg; *p; p++)
        CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void use(const jt_tokenizer *tok)
{
    static const char text[] = "The 123 e\xcc\x81\xff a  b<s>\n\xe4\xb8\xad";
    jt_tokens tokens = {0};
    jt_err err = {0};
    char *back;
    size_t len;
    jt_status status = jt_encode(tok, text, sizeof text, 3, &tokens, &err);
    if (status != JT_OK)
        check_refusal(status, &err);
    for (size_t i = 0; i < tokens.count; i++)
        CHECK(tokens.ids[i] >= 0 && (size_t)tokens.ids[i] < jt_vocab_size(tok));
    CHECK(jt_decode(tok, tokens.ids, tokens.count, true, &back, &len, NULL) == JT_OK);
    free(back);
    free(tokens.ids);
}

static void build(const char *path)
{
    jt_err err = {0};
    jt_gguf *file;
    jt_tokenizer *tok;
    CHECK(jt_gguf_open(&file, path, &err) == JT_OK);
    jt_status status = jt_tokenizer_new(&tok, file, &err);
    if (status != JT_OK) {
        check_refusal(status, &err);
    } else {
        use(tok);
        jt_tokenizer_free(tok);
    }
    jt_gguf_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t which = data[0] % FILES;
    scratch s = scratch_new();
    scratch_write(scratch_path(&s, files[which]), data + 1, size - 1);
    if (which == CONFIG)
        scratch_write(scratch_path(&s, files[0]), small, sizeof small - 1);
    const char *path = scratch_path(&s, "keys.gguf");
    jt_err err = {0};
    jt_status status = write_keys(path, s.dir, &err);
    if (status == JT_OK)
        build(path);
    else
        check_refusal(status, &err);
    scratch_free(&s);
    return 0;
}
