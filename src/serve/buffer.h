/* Bytes that grow, and what JSON needs of them. */
#ifndef JT_BUFFER_H
#define JT_BUFFER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* All zero is empty; freed with free(data). */
typedef struct jt_buffer {
    char *data;
    size_t len, capacity;
} jt_buffer;

/* Append; false (unchanged) when there is no memory. */
bool jt_buffer_add(jt_buffer *buffer, const char *text, size_t len);

/* Drop the first n bytes. */
void jt_buffer_drop(jt_buffer *buffer, size_t n);

/* How many bytes at its end may be the beginning of a mark. */
size_t jt_buffer_tail(const jt_buffer *buffer, const char *mark);

/* A JSON string of any bytes: what is not UTF-8, and NUL, becomes U+FFFD. NULL: no
 * memory. */
json_t *jt_buffer_json(const jt_buffer *buffer);

#endif
