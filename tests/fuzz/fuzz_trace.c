/* Any bytes as a trace: refused with a message, or opened and then read in full. Once
 * as they are, and once with the sums of head and blocks put right, which no fuzzer
 * would guess. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "junto/report.h"
#include "walk.h"
#include "watch/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A trace that was read whole can be reported, unless it is empty. */
static void report(jt_trace *trace)
{
    jt_report *r = NULL;
    jt_err err = {0};
    jt_report_options options = {.threads = 1, .sample = 256};
    jt_status status = jt_report_new(&r, trace, &options, &err);
    WALK_CHECK((status == JT_OK) == (r != NULL));
    WALK_CHECK(status == JT_OK || jt_trace_blocks(trace) == 0 || status == JT_E_MEMORY);
    jt_report_free(r);
}

static void walk_trace(jt_trace *trace)
{
    jt_trace_info info;
    jt_trace_describe(trace, &info);
    uint64_t tokens = 0;
    for (size_t i = 0; i < jt_trace_blocks(trace); i++) {
        jt_trace_block b;
        jt_err err = {0};
        if (jt_trace_read(trace, i, ~0u, &b, &err) != JT_OK) {
            WALK_CHECK(strstr(err.msg, "block") || err.code == JT_E_MEMORY);
            return;
        }
        WALK_CHECK(b.first == tokens && b.n_tokens > 0);
        WALK_CHECK(b.token && b.position && b.label && b.expert && b.weight);
        for (int r = 0; r < b.n_tokens; r++) {
            const char *label = jt_trace_label_name(trace, b.label[r]);
            WALK_CHECK(b.label[r] < 0 ? !*label : *label || info.n_labels > 0);
            for (int s = 0; s < info.n_slots; s++)
                WALK_CHECK(b.expert[(size_t)r * (size_t)info.n_slots + (size_t)s] >=
                           -1);
        }
        tokens += (uint64_t)b.n_tokens;
    }
    WALK_CHECK(tokens == info.tokens);
    if (info.n_slots <= 64 && info.n_rows <= 4096)
        report(trace);
}

static void try_bytes(const uint8_t *data, size_t size)
{
    jt_err err = {0};
    jt_trace *trace = NULL;
    jt_status status = jt_trace_open_memory(&trace, data, size, &err);
    if (status == JT_OK)
        walk_trace(trace);
    else
        WALK_CHECK(!trace && err.code == status && err.msg[0]);
    jt_trace_close(trace);
}

/* The sum at `at` + 16 of the 24 bytes there, as `sum` has it. */
static void put_sum(uint8_t *data, size_t at, uint64_t sum)
{
    unsigned char *p = data + at + 16;
    jt_trace_put(&p, sum, 8);
}

static void mend(uint8_t *data, size_t size)
{
    if (size < TRACE_PREFIX)
        return;
    const unsigned char *p = data + 12;
    size_t at = TRACE_PREFIX + (size_t)jt_trace_get(&p, 4);
    if (at > size)
        return;
    put_sum(data, 0, jt_hash(JT_HASH_START, data + TRACE_PREFIX, at - TRACE_PREFIX));
    while (size - at >= TRACE_PREFIX) {
        p = data + at + 8;
        size_t entries = (size_t)jt_trace_get(&p, 4) * TRACE_ENTRY;
        size_t bytes = (size_t)jt_trace_get(&p, 4), left = size - at - TRACE_PREFIX;
        if (entries > left)
            return;
        uint64_t sum = jt_hash(JT_HASH_START, data + at, 16);
        put_sum(data, at, jt_hash(sum, data + at + TRACE_PREFIX, entries));
        if (bytes > left - entries)
            return;
        at += TRACE_PREFIX + entries + bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(size ? size : 1, 1);
    WALK_CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    try_bytes(copy, size);
    mend(copy, size);
    try_bytes(copy, size);
    free(copy);
    return 0;
}
