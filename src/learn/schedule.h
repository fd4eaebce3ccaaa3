/* Learning rates over time. */
#ifndef JT_SCHEDULE_H
#define JT_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* All kinds rise linearly during the warm-up, then start at lr. */
typedef enum jt_schedule_kind {
    JT_SCHEDULE_CONSTANT,
    JT_SCHEDULE_LINEAR, /* down to final_lr at the last step */
    JT_SCHEDULE_COSINE, /* the same along half a cosine */
    JT_SCHEDULE_WSD     /* stay at lr; linear to final_lr over the last decay_steps */
} jt_schedule_kind;

/* "constant", "linear", "cosine", "wsd"; false (unchanged) for another name. */
bool jt_schedule_kind_named(const char *name, jt_schedule_kind *kind);

typedef struct jt_schedule {
    jt_schedule_kind kind;
    float lr, final_lr;
    int64_t warmup_steps, steps, decay_steps;
} jt_schedule;

/* Rate of step `step` (the first is 0, the last steps - 1). In the warm-up it is
 * lr * (step + 1) / warmup_steps; a decay never starts before the warm-up has ended;
 * past the last step it stays at final_lr (JT_SCHEDULE_CONSTANT: at lr). */
float jt_schedule_lr(const jt_schedule *schedule, int64_t step);

#endif
