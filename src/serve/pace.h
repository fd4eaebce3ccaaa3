/* How long passes take, and so how much of a prompt may run between two of those in
 * which replies go on by a token: so much that nobody waits twice as long as without
 * it. */
#ifndef JT_PACE_H
#define JT_PACE_H

#include <stdbool.h>
#include <stddef.h>

/* All zero: nothing is known. */
typedef struct jt_pace {
    double step;  /* seconds of a pass of replies alone, lately */
    double token; /* the same of a token of a prompt, in passes of many */
} jt_pace;

/* A pass of replies took so long. */
void jt_pace_step(jt_pace *pace, double seconds);
/* `tokens` of prompts took so long. */
void jt_pace_prompt(jt_pace *pace, size_t tokens, double seconds);

/* Seconds for prompts between two passes of replies. */
double jt_pace_slice(const jt_pace *pace);
/* Tokens of prompts that take about so long. */
size_t jt_pace_tokens(const jt_pace *pace, double seconds);

#endif
