/* tokenizer.model of SentencePiece: a protocol buffer, "ModelProto" of
 * sentencepiece/src/sentencepiece_model.proto. */
#include <string.h>

#include "text/draft.h"
#include "text/vocab.h"

/* A message, read field by field. */
typedef struct message {
    const unsigned char *at, *end;
    jt_err *err;
} message;

typedef struct field {
    uint64_t number;
    uint64_t value; /* of numbers */
    jt_str bytes;   /* of strings and messages */
    float real;     /* of 32-bit floats */
} field;

static jt_status torn(const message *m)
{
    return jt_fail(m->err, JT_E_FORMAT, "not a SentencePiece model, or cut off");
}

static jt_status read_varint(message *m, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (m->at == m->end)
            return torn(m);
        unsigned char byte = *m->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return JT_OK;
    }
    return torn(m);
}

static jt_status take_bytes(message *m, uint64_t count, jt_str *out)
{
    if (count > (uint64_t)(m->end - m->at))
        return torn(m);
    *out = (jt_str){(const char *)m->at, (size_t)count};
    m->at += count;
    return JT_OK;
}

/* The next field; false at the end. */
static jt_status next_field(message *m, field *f, bool *found)
{
    enum { VARINT = 0, BITS_64 = 1, BYTES = 2, BITS_32 = 5 };
    *f = (field){.bytes = {"", 0}};
    *found = m->at < m->end;
    if (!*found)
        return JT_OK;
    uint64_t tag = 0, len = 0;
    JT_TRY(read_varint(m, &tag));
    f->number = tag >> 3;
    switch (tag & 7) {
    case VARINT:
        return read_varint(m, &f->value);
    case BITS_64:
        return take_bytes(m, 8, &f->bytes);
    case BYTES:
        JT_TRY(read_varint(m, &len));
        return take_bytes(m, len, &f->bytes);
    case BITS_32:
        JT_TRY(take_bytes(m, 4, &f->bytes));
        memcpy(&f->real, f->bytes.data, 4);
        return JT_OK;
    default:
        return torn(m);
    }
}

static message open_message(const jt_draft *d, jt_str bytes)
{
    const unsigned char *data = (const unsigned char *)bytes.data;
    return (message){data, data + bytes.len, d->err};
}

/* SentencePiece: 1 piece, 2 score, 3 type */
static jt_status read_piece(jt_draft *d, jt_str bytes, int64_t id)
{
    message m = open_message(d, bytes);
    field f;
    jt_str text = {"", 0};
    float score = 0;
    uint64_t type = JT_TOKEN_NORMAL;
    for (bool found;;) {
        JT_TRY(next_field(&m, &f, &found));
        if (!found)
            break;
        if (f.number == 1)
            text = f.bytes;
        else if (f.number == 2)
            score = f.real;
        else if (f.number == 3)
            type = f.value;
    }
    if (type < JT_TOKEN_NORMAL || type > JT_TOKEN_BYTE)
        return jt_fail(d->err, JT_E_FORMAT, "piece %d has type %d", (int)id, (int)type);
    JT_TRY(jt_draft_set(d, id, text, (unsigned char)type));
    d->tokens[id].score = score;
    return JT_OK;
}

/* TrainerSpec: 3 model_type, 40 unk_id, 41 bos_id, 42 eos_id, 43 pad_id */
static jt_status read_trainer(jt_draft *d, jt_str bytes)
{
    message m = open_message(d, bytes);
    field f;
    for (bool found;;) {
        JT_TRY(next_field(&m, &f, &found));
        if (!found)
            return JT_OK;
        int32_t id = f.value < JT_DRAFT_MOST ? (int32_t)f.value : -1;
        if (f.number == 3 && f.value == 1)
            d->model = "t5";
        else if (f.number == 3 && f.value == 2)
            d->model = "llama";
        else if (f.number == 3)
            return jt_fail(d->err, JT_E_UNSUPPORTED,
                           "a SentencePiece model of type %d; known are 1 (unigram) and"
                           " 2 (BPE)",
                           (int)f.value);
        else if (f.number == 40)
            d->roles[JT_ROLE_UNKNOWN] = id;
        else if (f.number == 41)
            d->roles[JT_ROLE_BOS] = id;
        else if (f.number == 42)
            d->roles[JT_ROLE_EOS] = id;
        else if (f.number == 43)
            d->roles[JT_ROLE_PAD] = id;
        else if (f.number == 24 && f.value)
            return jt_fail(d->err, JT_E_UNSUPPORTED,
                           "treat_whitespace_as_suffix of SentencePiece");
    }
}

/* NormalizerSpec: 2 precompiled_charsmap, 3 add_dummy_prefix, 4
 * remove_extra_whitespaces
 */
static jt_status read_normalizer(jt_draft *d, jt_str bytes)
{
    message m = open_message(d, bytes);
    field f;
    for (bool found;;) {
        JT_TRY(next_field(&m, &f, &found));
        if (!found)
            return JT_OK;
        if (f.number == 2)
            d->charsmap = f.bytes;
        else if (f.number == 3)
            d->prefix = f.value != 0;
        else if (f.number == 4)
            d->shrink = f.value != 0;
    }
}

jt_status jt_import_sentencepiece(jt_draft *d, jt_str text)
{
    message m = open_message(d, text);
    field f;
    int64_t id = 0;
    /* What a model does not say, as the format has it. */
    d->model = "t5";
    d->pre = "default";
    d->scores = true;
    d->prefix = d->shrink = 1;
    d->roles[JT_ROLE_UNKNOWN] = 0;
    d->roles[JT_ROLE_BOS] = 1;
    d->roles[JT_ROLE_EOS] = 2;
    for (bool found;;) {
        JT_TRY(next_field(&m, &f, &found));
        if (!found)
            break;
        if (f.number == 1)
            JT_TRY(read_piece(d, f.bytes, id++));
        else if (f.number == 2)
            JT_TRY(read_trainer(d, f.bytes));
        else if (f.number == 3)
            JT_TRY(read_normalizer(d, f.bytes));
    }
    return d->by_text.used ? JT_OK : torn(&m);
}
