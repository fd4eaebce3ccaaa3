#include "text/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "text/draft.h"

enum { FILES_MOST = 12 };

/* Files of the folder, mapped until the keys are written. */
typedef struct importing {
    const char *folder;
    jt_map maps[FILES_MOST];
    size_t n_maps;
    jt_draft draft;
    jt_err *err;
} importing;

/* Map a file of the folder; *found says whether it is there. */
static jt_status open_file(importing *m, const char *name, jt_str *text, bool *found)
{
    size_t room = strlen(m->folder) + strlen(name) + 2;
    char *path = jt_alloc(room, 1);
    if (!path)
        return jt_fail_memory(m->err, "reading a tokenizer");
    snprintf(path, room, "%s/%s", m->folder, name);
    *found = access(path, F_OK) == 0 && m->n_maps < FILES_MOST;
    jt_map *map = &m->maps[m->n_maps];
    jt_status status = *found ? jt_map_open(map, path, m->err) : JT_OK;
    free(path);
    if (status != JT_OK || !*found)
        return status;
    m->n_maps++;
    *text = (jt_str){map->data ? (const char *)map->data : "", map->bytes};
    return JT_OK;
}

typedef jt_status read_fn(jt_draft *draft, jt_str text);

/* Read a file if it is there. */
static jt_status read_file(importing *m, const char *name, read_fn *read, bool *found)
{
    jt_str text;
    JT_TRY(open_file(m, name, &text, found));
    if (!*found)
        return JT_OK;
    jt_status status = read(&m->draft, text);
    return status == JT_OK ? JT_OK : jt_fail_within(m->err, status, "%s", name);
}

static jt_status read_qwen(jt_draft *draft, jt_str text)
{
    draft->pre = "qwen2";
    return jt_import_ranks(draft, text);
}

static jt_status read_kimi(jt_draft *draft, jt_str text)
{
    draft->pre = "kimi-k2";
    return jt_import_ranks(draft, text);
}

static jt_status read_hunyuan(jt_draft *draft, jt_str text)
{
    draft->pre = "hunyuan";
    return jt_import_ranks(draft, text);
}

/* The first of these that is there is the vocabulary. */
static jt_status read_vocabulary(importing *m)
{
    static const struct {
        const char *name;
        read_fn *read;
    } files[] = {{"tokenizer.json", jt_import_json},
                 {"tekken.json", jt_import_tekken},
                 {"tokenizer.model", jt_import_sentencepiece},
                 {"tiktoken.model", read_kimi},
                 {"qwen.tiktoken", read_qwen},
                 {"hy.tiktoken", read_hunyuan}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        bool found;
        JT_TRY(read_file(m, files[i].name, files[i].read, &found));
        if (found)
            return JT_OK;
    }
    return jt_fail(m->err, JT_E_IO,
                   "'%s' has no tokenizer.json, tekken.json, tokenizer.model or "
                   "tiktoken.model",
                   m->folder);
}

/* What stands beside it; templates in files of their own go first. */
static jt_status read_rest(importing *m, size_t *size)
{
    static const struct {
        const char *name;
        read_fn *read;
    } files[] = {{"chat_template.jinja", jt_import_chat_template},
                 {"chat_template.json", jt_import_template_json},
                 {"tokenizer_config.json", jt_import_tokenizer_config},
                 {"special_tokens_map.json", jt_import_special_map},
                 {"added_tokens.json", jt_import_added_tokens},
                 {"generation_config.json", jt_import_generation_config}};
    bool found;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        JT_TRY(read_file(m, files[i].name, files[i].read, &found));
    jt_str text;
    JT_TRY(open_file(m, "config.json", &text, &found));
    if (!found)
        return JT_OK;
    jt_status status = jt_import_config(&m->draft, text, size);
    return status == JT_OK ? JT_OK : jt_fail_within(m->err, status, "config.json");
}

jt_status jt_tokenizer_import(jt_gguf_writer *w, const char *folder, jt_err *err)
{
    importing m = {.folder = folder, .err = err};
    size_t size = 0;
    jt_draft_new(&m.draft, err);
    jt_status status = read_vocabulary(&m);
    if (status == JT_OK)
        status = read_rest(&m, &size);
    if (status == JT_OK)
        status = jt_draft_write(&m.draft, size, w);
    jt_draft_free(&m.draft);
    for (size_t i = 0; i < m.n_maps; i++)
        jt_map_close(&m.maps[i]);
    return status;
}
