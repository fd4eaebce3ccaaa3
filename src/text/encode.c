/* Text to tokens: special tokens are cut out, the stretches between them are split into
 * pieces (byte-level) or not (SentencePiece), and each piece is merged. */
#include <stdlib.h>

#include "text/pieces.h"
#include "base/utf8.h"
#include "text/vocab.h"

/* One call of jt_encode. */
typedef struct encoder {
    const jt_tokenizer *tok;
    jt_tokens *out;
    jt_merger merger;
    jt_pieces pieces; /* byte-level */
    jt_err *err;
} encoder;

static jt_status no_memory(const encoder *e)
{
    return jt_fail_memory(e->err, "encoding text");
}

static jt_status emit(encoder *e, int32_t id)
{
    jt_tokens *out = e->out;
    if (!jt_grow((void **)&out->ids, &out->capacity, out->count + 1, sizeof *out->ids))
        return no_memory(e);
    out->ids[out->count++] = id;
    return JT_OK;
}

static jt_status push(encoder *e, int32_t id)
{
    return jt_merger_push(&e->merger, id) ? JT_OK : no_memory(e);
}

/* Some byte-level vocabularies lack bytes that their training text did not have. The
 * libraries that the models come from leave these out, and so does this: the unknown
 * token of such files is mostly their end-of-text token, which must not come from text.
 */
static jt_status push_byte(encoder *e, char c)
{
    int32_t id = e->tok->bytes[(unsigned char)c];
    return id >= 0 ? push(e, id) : JT_OK;
}

/* Merge the piece at hand and emit what it has become. */
static jt_status finish_piece(encoder *e)
{
    if (!e->merger.count)
        return JT_OK;
    if (!jt_merger_run(&e->merger, &e->tok->merges))
        return no_memory(e);
    const jt_symbol *symbols = e->merger.symbols;
    for (uint32_t at = 0; at != JT_SYMBOL_END; at = symbols[at].next)
        JT_TRY(emit(e, symbols[at].id));
    return JT_OK;
}

static jt_status encode_piece(void *user, jt_str piece)
{
    encoder *e = user;
    size_t word = jt_names_find(&e->tok->by_piece, piece);
    if (word != JT_NAMES_NONE)
        return emit(e, (int32_t)word);
    jt_merger_reset(&e->merger);
    for (size_t i = 0; i < piece.len; i++)
        JT_TRY(push_byte(e, piece.data[i]));
    return finish_piece(e);
}

/* The token of one character of a SentencePiece vocabulary, -1 when there is none. */
static int32_t find_char(const jt_tokenizer *tok, jt_str c)
{
    if (c.len == 1 && (unsigned char)c.data[0] < 128)
        return tok->ascii[(unsigned char)c.data[0]];
    int32_t id = jt_vocab_find(tok, c);
    return id >= 0 && tok->tokens[id].type == JT_TOKEN_NORMAL ? id : -1;
}

/* One unknown token stands for all neighbours that the vocabulary does not have. */
static jt_status push_unknown(encoder *e, char byte)
{
    const jt_merger *m = &e->merger;
    int32_t unknown = e->tok->unknown;
    if (unknown < 0)
        return jt_fail(e->err, JT_E_UNSUPPORTED,
                       "the vocabulary has no token for byte 0x%02x and no unknown"
                       " token",
                       (unsigned char)byte);
    bool again = m->count > 0 && m->symbols[m->count - 1].id == unknown;
    return again ? JT_OK : push(e, unknown);
}

/* Append a character: its token, or those of its bytes. */
static jt_status push_char(encoder *e, jt_str c)
{
    int32_t id = find_char(e->tok, c);
    if (id >= 0)
        return push(e, id);
    for (size_t i = 0; i < c.len; i++) {
        if (e->tok->bytes[(unsigned char)c.data[i]] < 0)
            return push_unknown(e, c.data[i]);
    }
    for (size_t i = 0; i < c.len; i++)
        JT_TRY(push_byte(e, c.data[i]));
    return JT_OK;
}

/* SentencePiece: the whole stretch is one piece of characters. */
static jt_status encode_sentence(encoder *e, jt_str text)
{
    jt_merger_reset(&e->merger);
    if (e->tok->space_prefix)
        JT_TRY(push_char(e, (jt_str){" ", 1}));
    for (size_t at = 0, n; at < text.len; at += n) {
        n = jt_utf8_char(text.data + at, text.len - at);
        n = n ? n : 1; /* not UTF-8: one byte */
        JT_TRY(push_char(e, (jt_str){text.data + at, n}));
    }
    return finish_piece(e);
}

/* Text without special tokens. */
static jt_status encode_plain(encoder *e, jt_str text)
{
    if (!text.len)
        return JT_OK;
    if (e->tok->sentencepiece)
        return encode_sentence(e, text);
    return jt_pieces_run(&e->pieces, text, encode_piece, e, e->err);
}

static jt_status encode_text(encoder *e, jt_str text, bool parse_control)
{
    size_t start = 0; /* of the text that is not encoded yet */
    for (size_t at = 0; at < text.len;) {
        const jt_special *special = jt_specials_match(
            &e->tok->specials, (jt_str){text.data + at, text.len - at}, parse_control);
        if (!special) {
            at++;
            continue;
        }
        JT_TRY(encode_plain(e, (jt_str){text.data + start, at - start}));
        JT_TRY(emit(e, special->id));
        start = at += special->text.len;
    }
    return encode_plain(e, (jt_str){text.data + start, text.len - start});
}

static jt_status encode_all(encoder *e, jt_str text, unsigned flags)
{
    if (e->tok->pre)
        JT_TRY(jt_pieces_new(&e->pieces, e->tok->pre, &e->tok->splitter, e->err));
    bool add = flags & JT_ENCODE_ADD_SPECIAL;
    if (add && e->tok->add_bos)
        JT_TRY(emit(e, e->tok->bos));
    JT_TRY(encode_text(e, text, flags & JT_ENCODE_PARSE_SPECIAL));
    if (add && e->tok->add_eos)
        JT_TRY(emit(e, e->tok->eos));
    return JT_OK;
}

jt_status jt_encode(const jt_tokenizer *tok, const char *text, size_t len,
                    unsigned flags, jt_tokens *tokens, jt_err *err)
{
    /* Places in a text are 32 bits in the merger; with the prefix and its bytes this is
     * far from their end. */
    if (len > INT32_MAX)
        return jt_fail(err, JT_E_LIMIT, "text of %zu bytes is too long to encode", len);
    encoder e = {.tok = tok, .out = tokens, .err = err};
    size_t before = tokens->count;
    jt_status status = encode_all(&e, (jt_str){len ? text : "", len}, flags);
    if (status != JT_OK)
        tokens->count = before;
    jt_pieces_free(&e.pieces);
    jt_merger_free(&e.merger);
    return status;
}
