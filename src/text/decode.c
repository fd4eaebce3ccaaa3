#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

/* What a token adds to the text, after *fresh stretches: SentencePiece put a space in
 * front of each stretch of text between special tokens, which is taken off again. */
static jt_str shown(const jt_tokenizer *tok, int32_t id, bool special, bool *fresh)
{
    jt_str piece = jt_token_piece(tok, id);
    bool is_special = jt_token_is_special(tok, id);
    if (is_special && !special)
        piece.len = 0;
    bool text = piece.data && !is_special && tok->tokens[id].type != JT_TOKEN_USER;
    if (text && *fresh && tok->space_prefix && piece.len && piece.data[0] == ' ')
        piece = (jt_str){piece.data + 1, piece.len - 1};
    *fresh = !text && !(tok->space_once && !*fresh);
    return piece;
}

jt_status jt_decode(const jt_tokenizer *tok, const int32_t *ids, size_t count,
                    bool special, char **text, size_t *len, jt_err *err)
{
    char *out = NULL;
    size_t used = 0, capacity = 0;
    bool fresh = true;
    if (!jt_grow((void **)&out, &capacity, 1, 1))
        return jt_fail_memory(err, "decoding tokens");
    for (size_t i = 0; i < count; i++) {
        jt_str piece = shown(tok, ids[i], special, &fresh);
        if (!piece.len)
            continue;
        if (!jt_grow((void **)&out, &capacity, used + piece.len + 1, 1)) {
            free(out);
            return jt_fail_memory(err, "decoding tokens");
        }
        memcpy(out + used, piece.data, piece.len);
        used += piece.len;
    }
    out[used] = '\0';
    *text = out;
    *len = used;
    return JT_OK;
}
