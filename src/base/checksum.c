#include "base/checksum.h"

#include <stdlib.h>

#define XXH_STATIC_LINKING_ONLY /* the size of its state, which is ours to allocate */
#include <xxhash.h>

#include "base/memory.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "sums are joined in the order of this machine");

size_t jt_checksum_pieces(size_t bytes)
{
    return bytes / JT_CHECKSUM_PIECE + (bytes % JT_CHECKSUM_PIECE != 0);
}

uint64_t jt_checksum_piece(const void *data, size_t bytes, size_t i)
{
    size_t from = i * JT_CHECKSUM_PIECE, left = bytes - from;
    return XXH3_64bits((const char *)data + from,
                       left < JT_CHECKSUM_PIECE ? left : JT_CHECKSUM_PIECE);
}

uint64_t jt_checksum_join(const uint64_t *sums, size_t pieces)
{
    return XXH3_64bits(sums, pieces * sizeof *sums);
}

/* ---- part by part ---- */

jt_status jt_summing_init(jt_summing *s, jt_err *err)
{
    enum { ALIGN = _Alignof(XXH3_state_t) };
    s->memory = jt_alloc(2, sizeof(XXH3_state_t) + ALIGN);
    if (!s->memory)
        return jt_fail_memory(err, "summing");
    XXH3_state_t *state =
        (void *)((char *)s->memory + ALIGN - (uintptr_t)s->memory % ALIGN);
    XXH3_INITSTATE(&state[0]);
    XXH3_INITSTATE(&state[1]);
    s->piece = &state[0];
    s->all = &state[1];
    jt_summing_start(s);
    return JT_OK;
}

void jt_summing_free(jt_summing *s)
{
    free(s->memory);
    *s = (jt_summing){0};
}

void jt_summing_start(jt_summing *s)
{
    (void)XXH3_64bits_reset(s->piece);
    (void)XXH3_64bits_reset(s->all);
    s->filled = 0;
}

static void end_piece(jt_summing *s)
{
    uint64_t sum = XXH3_64bits_digest(s->piece);
    (void)XXH3_64bits_update(s->all, &sum, sizeof sum);
    (void)XXH3_64bits_reset(s->piece);
    s->filled = 0;
}

void jt_summing_add(jt_summing *s, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes) {
        size_t room = JT_CHECKSUM_PIECE - s->filled, now = bytes < room ? bytes : room;
        (void)XXH3_64bits_update(s->piece, at, now);
        s->filled += now;
        at += now;
        bytes -= now;
        if (s->filled == JT_CHECKSUM_PIECE)
            end_piece(s);
    }
}

uint64_t jt_summing_end(jt_summing *s)
{
    if (s->filled)
        end_piece(s);
    return XXH3_64bits_digest(s->all);
}
