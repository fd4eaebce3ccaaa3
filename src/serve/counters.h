/* Figures of a server, for Prometheus. */
#ifndef JT_COUNTERS_H
#define JT_COUNTERS_H

#include <pthread.h>

#include "junto/store.h"
#include "serve/buffer.h"

/* X(name, kind, help): junto_<name>. The kinds: counters only grow. */
#define JT_COUNTERS(X)                                                                 \
    X(requests_total, "counter", "Requests that were answered, of any kind")           \
    X(failed_requests_total, "counter", "Those of them with a status of 400 or more")  \
    X(rejected_total, "counter", "Requests for replies that found the queue full")     \
    X(cancelled_total, "counter", "Replies whose client left")                         \
    X(replies_total, "counter", "Replies that ended")                                  \
    X(prompt_tokens_total, "counter", "Tokens of prompts")                             \
    X(kept_tokens_total, "counter", "Those of them that a context still held")         \
    X(tokens_total, "counter", "Tokens that were sampled")                             \
    X(passes_total, "counter", "Passes that replies shared")                           \
    X(pass_tokens_total, "counter", "Tokens in them")                                  \
    X(pass_seconds_total, "counter", "Seconds in them")                                \
    X(expert_loads_total, "counter", "Experts in them, each once a layer and pass")    \
    X(first_token_seconds_sum, "counter", "Seconds from requests to their first text") \
    X(first_token_seconds_count, "counter", "How many those are of")                   \
    X(store_hits_total, "counter", "Experts asked for that were in memory")            \
    X(store_hits_ahead_total, "counter", "Experts that were there because of a guess") \
    X(store_misses_total, "counter", "Experts that had to be read when asked for")     \
    X(store_read_bytes_total, "counter", "Bytes of experts that were read")            \
    X(store_stall_seconds_total, "counter", "Seconds that computing waited for them")  \
    X(store_ahead_total, "counter", "Experts that were read on a guess")               \
    X(store_ahead_used_total, "counter", "Those of them that were then asked for")     \
    X(store_slots, "gauge", "Experts that memory has room for")                        \
    X(store_bytes, "gauge", "Bytes of that room")                                      \
    X(adapter_loads_total, "counter", "Adapters that were read from their files")      \
    X(adapters, "gauge", "Adapters in memory")                                         \
    X(adapter_bytes, "gauge", "Bytes of them")                                         \
    X(slots, "gauge", "Replies that can run at once")                                  \
    X(slots_busy, "gauge", "Replies that run")                                         \
    X(queue_length, "gauge", "Replies that wait for a slot")

typedef enum jt_counter {
#define X(name, kind, help) JT_COUNTER_##name,
    JT_COUNTERS(X)
#undef X
        JT_COUNTER_COUNT
} jt_counter;

typedef struct jt_counters {
    pthread_mutex_t lock;
    double value[JT_COUNTER_COUNT];
} jt_counters;

void jt_counters_open(jt_counters *metrics);
void jt_counters_close(jt_counters *metrics);
void jt_counters_add(jt_counters *metrics, jt_counter metric, double value);
void jt_counters_set(jt_counters *metrics, jt_counter metric, double value);

/* What a store has done so far. */
void jt_counters_store(jt_counters *metrics, const jt_store_stats *store);

/* Add what `from` counted to `to`, and what it measures now only if `gauges`. */
void jt_counters_merge(jt_counters *to, jt_counters *from, bool gauges);

/* The text format of Prometheus, version 0.0.4. False: no memory. */
bool jt_counters_write(jt_counters *metrics, jt_buffer *out);

#endif
