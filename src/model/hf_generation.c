/* generation_config.json: how a model's makers would sample it. */
#include <stdio.h>
#include <unistd.h>

#include "base/memory.h"
#include "model/hf.h"

static const struct {
    const char *config, *key;
    bool whole;
} rows[] = {
    {"temperature", "general.sampling.temp", false},
    {"top_k", "general.sampling.top_k", true},
    {"top_p", "general.sampling.top_p", false},
    {"min_p", "general.sampling.min_p", false},
    {"repetition_penalty", "general.sampling.penalty_repeat", false},
};
enum { ROWS = sizeof rows / sizeof *rows };

static jt_status set_row(jt_hf_job *job, size_t i, const json_t *value)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= 0.0) || number > INT32_MAX)
        return JT_OK;
    if (rows[i].whole)
        return jt_gguf_set_u32(job->writer, rows[i].key, (uint32_t)number, job->err);
    return jt_gguf_set_f32(job->writer, rows[i].key, (float)number, job->err);
}

jt_status jt_hf_read_generation(jt_hf_job *job, const char *folder)
{
    static const char name[] = "generation_config.json";
    char path[4096];
    json_t *config;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (access(path, F_OK) != 0)
        return JT_OK;
    JT_TRY(jt_hf_read_json(&config, folder, name, job->err));
    jt_status status = JT_OK;
    for (size_t i = 0; i < ROWS && status == JT_OK; i++)
        status = set_row(job, i, json_object_get(config, rows[i].config));
    json_decref(config);
    return status;
}

jt_status jt_hf_make_generation(const jt_gguf *file, json_t **out, jt_err *err)
{
    static const struct {
        const char *config, *key;
    } tokens[] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                  {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                  {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
    json_t *config = json_object();
    int failed = !config;
    for (size_t i = 0; i < ROWS; i++) {
        float number;
        if (jt_gguf_get_f32(file, rows[i].key, &number))
            failed |= json_object_set_new(
                config, rows[i].config,
                rows[i].whole ? json_integer((json_int_t)number) : jt_hf_real(number));
    }
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        int64_t id;
        if (jt_gguf_get_i64(file, tokens[i].key, &id))
            failed |= json_object_set_new(config, tokens[i].config, json_integer(id));
    }
    if (failed) {
        json_decref(config);
        return jt_fail_memory(err, "making generation_config.json");
    }
    *out = config;
    return JT_OK;
}
