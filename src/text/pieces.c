#include "text/pieces.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

jt_status jt_pieces_new(jt_pieces *out, const jt_pretokenizer *kind,
                        const jt_splitter *splitter, jt_err *err)
{
    *out = (jt_pieces){.splitter = splitter, .kind = kind};
    out->scratch = jt_splitter_scratch(splitter);
    return out->scratch ? JT_OK : jt_fail_memory(err, "splitting text");
}

void jt_pieces_free(jt_pieces *pieces)
{
    pcre2_match_data_free(pieces->scratch);
    jt_nfc_free(&pieces->nfc);
    *pieces = (jt_pieces){0};
}

jt_status jt_pieces_run(jt_pieces *pieces, jt_str text, jt_split_fn *fn, void *user,
                        jt_err *err)
{
    while (text.len > 0) {
        jt_str run = {text.data, jt_utf8_valid(text.data, text.len)};
        if (run.len > 0) {
            jt_str normal = run;
            if (pieces->kind->nfc)
                JT_TRY(jt_nfc_run(&pieces->nfc, run, &normal, err));
            JT_TRY(jt_splitter_run(pieces->splitter, pieces->scratch, normal, fn, user,
                                   err));
        } else {
            run.len = jt_utf8_invalid(text.data, text.len);
            JT_TRY(fn(user, run));
        }
        text = (jt_str){text.data + run.len, text.len - run.len};
    }
    return JT_OK;
}

size_t jt_pieces_chunk(jt_str text, size_t most)
{
    if (text.len <= most)
        return text.len;
    const char *line_end = memrchr(text.data, '\n', most);
    if (line_end)
        return (size_t)(line_end - text.data) + 1;
    return jt_utf8_whole(text.data, most);
}
