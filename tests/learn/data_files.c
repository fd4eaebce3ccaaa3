#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "data_files.h"

jt_tokenizer *data_tok;
scratch data_dir;

int data_start(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", getenv("JUNTO_TEST_DATA"));
    jt_gguf *file;
    jt_err err = {0};
    jt_status status = jt_gguf_open(&file, path, &err);
    if (status == JT_OK) {
        status = jt_tokenizer_new(&data_tok, file, &err);
        jt_gguf_close(file);
    }
    if (status != JT_OK)
        fprintf(stderr, "%s\n", err.msg);
    data_dir = scratch_new();
    return status;
}

int data_stop(void **state)
{
    (void)state;
    jt_tokenizer_free(data_tok);
    scratch_free(&data_dir);
    return 0;
}

const char *data_bytes_file(const char *name, const void *bytes, size_t len)
{
    const char *path = scratch_path(&data_dir, name);
    scratch_write(path, bytes, len);
    return path;
}

const char *data_text_file(const char *name, const char *text)
{
    return data_bytes_file(name, text, strlen(text));
}

const char *data_json_file(const char *name, const char *text)
{
    char json[1024];
    assert_true(strlen(text) < sizeof json);
    for (size_t i = 0; i == 0 || text[i - 1]; i++)
        json[i] = text[i] == '\'' ? '"' : text[i];
    return data_text_file(name, json);
}

size_t data_numbers_length(size_t doc)
{
    return doc % 10 == 7 ? 60 : 3 + doc * 7 % 11;
}

const char *data_numbers_file(const char *name, size_t docs)
{
    int32_t *ids = calloc(docs * 60, sizeof *ids);
    size_t count = 0;
    for (size_t d = 0; d < docs; d++) {
        for (size_t i = 1; i < data_numbers_length(d); i++)
            ids[count++] = (int32_t)(d * 1000 + i);
        ids[count++] = 0;
    }
    const char *path = data_bytes_file(name, ids, count * sizeof *ids);
    free(ids);
    return path;
}

jt_data *data_open(const jt_data_source *sources, size_t n, const jt_tokenizer *tok,
                   size_t n_vocab, jt_data_options options)
{
    jt_data *data = NULL;
    jt_err err = {0};
    if (jt_data_open(&data, sources, n, tok, n_vocab, &options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return data;
}

jt_batch data_epoch(const jt_data_source *source, const jt_tokenizer *tok,
                    const jt_chat_format *chat)
{
    jt_data_options options = {.seq_len = 2, .chat = chat};
    jt_data *data = data_open(source, 1, tok, 0, options);
    options.seq_len = jt_data_epoch_tokens(data);
    jt_data_free(data);
    data = data_open(source, 1, tok, 0, options);
    jt_batch batch;
    assert_int_equal(jt_batch_new(&batch, 1, options.seq_len, NULL), JT_OK);
    assert_int_equal(jt_data_train_batch(data, 0, &batch, NULL), JT_OK);
    jt_data_free(data);
    return batch;
}
