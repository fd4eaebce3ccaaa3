/* JSONL files: a document a record. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/data_impl.h"
#include "text/jsonl.h"

/* Text that is put together; starts as {0}. */
typedef struct buffer {
    char *data;
    size_t len, capacity;
} buffer;

static jt_status append(buffer *b, jt_str text, jt_err *err)
{
    if (!jt_grow((void **)&b->data, &b->capacity, b->len + text.len, 1))
        return jt_fail_memory(err, "reading a record");
    if (text.len)
        memcpy(b->data + b->len, text.data, text.len);
    b->len += text.len;
    return JT_OK;
}

static jt_status append_around(buffer *b, const char *prefix, jt_str text,
                               const char *suffix, jt_err *err)
{
    JT_TRY(append(b, (jt_str){prefix, strlen(prefix)}, err));
    JT_TRY(append(b, text, err));
    return append(b, (jt_str){suffix, strlen(suffix)}, err);
}

static jt_status read_plain(jt_reader *r, const jt_record *record, jt_err *err)
{
    JT_TRY(jt_reader_begin(r, err));
    JT_TRY(jt_reader_text(r, record->text, 0, err));
    return jt_reader_end(r, true, err);
}

static jt_status read_completion(jt_reader *r, const jt_record *record, buffer *joined,
                                 jt_err *err)
{
    JT_TRY(append(joined, record->text, err));
    JT_TRY(append(joined, record->completion, err));
    JT_TRY(jt_reader_begin(r, err));
    JT_TRY(jt_reader_reply(r, (jt_str){joined->data, joined->len}, record->text.len, 0,
                           err));
    return jt_reader_end(r, true, err);
}

static jt_status read_reply(jt_reader *r, jt_str reply, buffer *turn, jt_err *err)
{
    size_t prompt = turn->len;
    JT_TRY(append(turn, reply, err));
    JT_TRY(jt_reader_reply(r, (jt_str){turn->data, turn->len}, prompt,
                           JT_ENCODE_PARSE_SPECIAL, err));
    turn->len = 0;
    return jt_reader_close_reply(r, err);
}

static jt_status read_messages(jt_reader *r, const jt_record *record, buffer *turn,
                               jt_err *err)
{
    const jt_chat_format *f = r->chat;
    jt_message message;
    JT_TRY(jt_reader_begin(r, err));
    for (size_t i = 0; i < jt_record_messages(record); i++) {
        JT_TRY(jt_record_message(record, i, &message, err));
        jt_str content = message.content;
        if (message.role == JT_SYSTEM)
            JT_TRY(
                append_around(turn, f->system_prefix, content, f->system_suffix, err));
        else if (message.role == JT_USER)
            JT_TRY(append_around(turn, f->user_prefix, content, f->user_suffix, err));
        else
            JT_TRY(read_reply(r, content, turn, err));
    }
    return jt_reader_end(r, false, err); /* a question without a reply is left out */
}

static jt_status read_record(void *user, const jt_record *record, jt_err *err)
{
    jt_reader *r = user;
    buffer joined = {0};
    jt_status status;
    if (record->kind == JT_RECORD_TEXT)
        status = read_plain(r, record, err);
    else if (record->kind == JT_RECORD_COMPLETION)
        status = read_completion(r, record, &joined, err);
    else
        status = read_messages(r, record, &joined, err);
    free(joined.data);
    return status == JT_OK ? jt_reader_report(r, record->end, err) : status;
}

jt_status jt_data_read_jsonl(jt_reader *r, jt_err *err)
{
    jt_str text = {(const char *)r->docs->map.data, r->docs->map.bytes};
    return jt_jsonl_read(text, read_record, r, err);
}
