/* Text to tokens: special tokens are cut out, the stretches between them are normalized
 * and split into pieces, and each piece becomes tokens, as the kind of vocabulary has
 * it.
 */
#include <stdlib.h>

#include "text/pieces.h"
#include "base/utf8.h"
#include "text/vocab.h"

/* One call of jt_encode. */
typedef struct encoder {
    const jt_tokenizer *tok;
    jt_tokens *out;
    jt_merger merger;
    jt_unigram_work unigram;
    jt_pieces pieces;
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
    if (e->merger.count >= UINT32_MAX - 2) /* places in the merger have 32 bits */
        return jt_fail(e->err, JT_E_LIMIT, "text is too long to encode");
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

static jt_status encode_bytes(encoder *e, jt_str piece)
{
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

static jt_status no_token(const encoder *e, char byte)
{
    return jt_fail(e->err, JT_E_UNSUPPORTED,
                   "the vocabulary has no token for byte 0x%02x and no unknown token",
                   (unsigned char)byte);
}

/* One unknown token stands for all neighbours that the vocabulary does not have. */
static jt_status push_unknown(encoder *e, char byte)
{
    const jt_merger *m = &e->merger;
    int32_t unknown = e->tok->unknown;
    if (unknown < 0)
        return no_token(e, byte);
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

static jt_status encode_chars(encoder *e, jt_str piece)
{
    jt_merger_reset(&e->merger);
    for (size_t at = 0, n; at < piece.len; at += n) {
        n = jt_utf8_char(piece.data + at, piece.len - at);
        n = n ? n : 1; /* not UTF-8: one byte */
        JT_TRY(push_char(e, (jt_str){piece.data + at, n}));
    }
    return finish_piece(e);
}

/* Bytes that no token has: the tokens of the single bytes, where there are all, or the
 * unknown token, which stands for all neighbours. */
static jt_status emit_unknown(encoder *e, jt_str bytes, size_t first)
{
    const jt_tokens *out = e->out;
    int32_t unknown = e->tok->unknown;
    bool all = true;
    for (size_t i = 0; i < bytes.len; i++)
        all &= e->tok->bytes[(unsigned char)bytes.data[i]] >= 0;
    for (size_t i = 0; i < bytes.len && all; i++)
        JT_TRY(emit(e, e->tok->bytes[(unsigned char)bytes.data[i]]));
    if (all)
        return JT_OK;
    if (unknown < 0)
        return no_token(e, bytes.data[0]);
    bool again = out->count > first && out->ids[out->count - 1] == unknown;
    return again ? JT_OK : emit(e, unknown);
}

/* A unigram piece on its way: where its tokens begin. */
typedef struct unigram_piece {
    encoder *e;
    size_t first;
} unigram_piece;

static jt_status emit_likeliest(void *user, int32_t id, jt_str bytes)
{
    const unigram_piece *p = user;
    return id >= 0 ? emit(p->e, id) : emit_unknown(p->e, bytes, p->first);
}

static jt_status encode_unigram(encoder *e, jt_str piece)
{
    unigram_piece p = {e, e->out->count};
    return jt_unigram_run(&e->tok->unigram, &e->unigram, piece, emit_likeliest, &p,
                          e->err);
}

/* The longest string of a trie that `text` begins with; its value, or -1. */
static int32_t longest(const jt_trie *trie, jt_str text, size_t *len)
{
    int32_t id = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < text.len; i++) {
        const jt_trie_edge *edge =
            jt_trie_step(trie, node, (unsigned char)text.data[i]);
        if (!edge)
            break;
        node = edge->to;
        if (edge->value < 0)
            continue;
        id = edge->value;
        *len = i + 1;
    }
    return id;
}

static size_t count_chars(jt_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    return n;
}

/* WordPiece: the longest token at each place. A word with a place that no token fits,
 * or with very many characters, is unknown. */
static jt_status encode_word(encoder *e, jt_str piece)
{
    const jt_tokenizer *tok = e->tok;
    size_t first = e->out->count;
    bool fits = count_chars(piece) <= tok->word_most;
    for (size_t at = 0, len = 0; at < piece.len && fits; at += len) {
        jt_str rest = {piece.data + at, piece.len - at};
        int32_t id = longest(at == 0 ? &tok->words : &tok->parts, rest, &len);
        fits = id >= 0;
        if (fits)
            JT_TRY(emit(e, id));
    }
    if (fits)
        return JT_OK;
    e->out->count = first;
    return tok->unknown >= 0 ? emit(e, tok->unknown) : no_token(e, *piece.data);
}

static jt_status encode_piece(void *user, jt_str piece)
{
    encoder *e = user;
    switch (e->tok->kind) {
    case JT_VOCAB_BYTES:
        return encode_bytes(e, piece);
    case JT_VOCAB_PIECES:
        return encode_chars(e, piece);
    case JT_VOCAB_UNIGRAM:
        return encode_unigram(e, piece);
    default:
        return encode_word(e, piece);
    }
}

/* ---- special tokens ---- */

/* The character that ends before `at`; -1 when there is none. */
static int32_t char_before(jt_str text, size_t at)
{
    for (size_t n = 1; n <= 4 && n <= at; n++) {
        if (jt_utf8_char(text.data + at - n, n) == n)
            return jt_char_at((jt_str){text.data + at - n, n});
    }
    return -1;
}

static int32_t char_after(jt_str text, size_t at)
{
    return at < text.len ? jt_char_at((jt_str){text.data + at, text.len - at}) : -1;
}

/* Whether a token that is found at `at` may be there. */
static bool may_stand(const jt_special *special, jt_str text, size_t at)
{
    if (!special->single_word)
        return true;
    int32_t before = char_before(text, at);
    int32_t after = char_after(text, at + special->text.len);
    return (before < 0 || !jt_char_is_word(before)) &&
           (after < 0 || !jt_char_is_word(after));
}

/* Where text ends before a special token, and where it goes on behind it. */
static size_t strip_end(jt_str text, size_t start, size_t at)
{
    int32_t c;
    while (at > start && (c = char_before(text, at)) >= 0 && jt_char_is_space(c))
        at -= jt_char_bytes(c);
    return at;
}

static size_t strip_start(jt_str text, size_t at)
{
    int32_t c;
    while ((c = char_after(text, at)) >= 0 && jt_char_is_space(c))
        at += jt_char_bytes(c);
    return at;
}

static const jt_special *find_special(const encoder *e, jt_str text, size_t at,
                                      bool parse_control)
{
    const jt_special *special = jt_specials_match(
        &e->tok->specials, (jt_str){text.data + at, text.len - at}, parse_control);
    return special && may_stand(special, text, at) ? special : NULL;
}

/* Text without special tokens, from `start` to `end` of the whole. */
static jt_status encode_plain(encoder *e, jt_str text, size_t start, size_t end)
{
    jt_str part = {text.data + start, end - start};
    return jt_pieces_run(&e->pieces, part, start == 0, encode_piece, e, e->err);
}

static jt_status encode_text(encoder *e, jt_str text, bool parse_control)
{
    size_t start = 0; /* of the text that is not encoded yet */
    for (size_t at = 0; at < text.len;) {
        const jt_special *special = find_special(e, text, at, parse_control);
        if (!special) {
            at++;
            continue;
        }
        size_t end = special->strip_left ? strip_end(text, start, at) : at;
        JT_TRY(encode_plain(e, text, start, end));
        JT_TRY(emit(e, special->id));
        at += special->text.len;
        start = at = special->strip_right ? strip_start(text, at) : at;
    }
    return encode_plain(e, text, start, text.len);
}

static jt_status encode_all(encoder *e, jt_str text, unsigned flags)
{
    JT_TRY(jt_pieces_new(&e->pieces, &e->tok->steps, e->err));
    bool add = flags & JT_ENCODE_ADD_SPECIAL;
    if (add && e->tok->add_bos)
        JT_TRY(emit(e, e->tok->bos));
    for (size_t i = 0; i < e->tok->n_begin && add; i++)
        JT_TRY(emit(e, e->tok->begin[i]));
    JT_TRY(encode_text(e, text, flags & JT_ENCODE_PARSE_SPECIAL));
    for (size_t i = 0; i < e->tok->n_end && add; i++)
        JT_TRY(emit(e, e->tok->end[i]));
    if (add && e->tok->add_eos)
        JT_TRY(emit(e, e->tok->eos));
    return JT_OK;
}

jt_status jt_encode(const jt_tokenizer *tok, const char *text, size_t len,
                    unsigned flags, jt_tokens *tokens, jt_err *err)
{
    if (len > INT32_MAX)
        return jt_fail(err, JT_E_LIMIT, "text of %zu bytes is too long to encode", len);
    encoder e = {.tok = tok, .out = tokens, .err = err};
    size_t before = tokens->count;
    jt_status status = encode_all(&e, (jt_str){len ? text : "", len}, flags);
    if (status != JT_OK)
        tokens->count = before;
    jt_pieces_free(&e.pieces);
    jt_merger_free(&e.merger);
    free(e.unigram.places);
    return status;
}
