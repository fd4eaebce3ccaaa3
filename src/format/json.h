/* Reading JSON (RFC 8259) from memory, value by value, without building a tree.
 *
 * A reader stands before a value. The calls below take it, and a value that nobody
 * takes is skipped. The first error sticks: from then on jt_json_next is false and all
 * values are 0 or empty, so that code reads like the document and is checked once, at
 * the end.
 *
 *     jt_json j;
 *     jt_json_open(&j, text, bytes, &arena, err);
 *     jt_json_enter(&j, JT_JSON_OBJECT);
 *     while (jt_json_next(&j)) {
 *         if (jt_json_key_is(&j, "vocab_size"))
 *             size = jt_json_int(&j);
 *         else if (jt_json_key_is(&j, "layers"))
 *             read_layers(&j); // enters the array and goes on until next is false
 *     }
 *     JT_TRY(jt_json_finish(&j));
 *
 * A copy of the struct is a bookmark: it goes on from the same place by itself, with an
 * error of its own in the same jt_err.
 *
 * Strict: UTF-8 and surrogates are checked, nothing is allowed that the RFC does not
 * have (comments, commas at the end, NaN, a byte order mark). Names may be repeated in
 * an object, as the RFC has it: whoever minds must look. */
#ifndef JT_FORMAT_JSON_H
#define JT_FORMAT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "junto/gguf.h"
#include "junto/status.h"

enum { JT_JSON_DEPTH = 128 }; /* objects and arrays in each other, at most */

typedef enum jt_json_type {
    JT_JSON_NONE, /* no value here, or an error */
    JT_JSON_NULL,
    JT_JSON_BOOL,
    JT_JSON_NUMBER,
    JT_JSON_STRING,
    JT_JSON_ARRAY,
    JT_JSON_OBJECT
} jt_json_type;

typedef struct jt_json {
    jt_str key; /* of the value that jt_json_next found in an object */
    jt_status status;
    /* private */
    const char *text, *at, *end;
    jt_arena *strings;
    jt_err *err;
    unsigned char place; /* before a value, after one, or at the start of a list */
    unsigned char depth;
    bool object[JT_JSON_DEPTH]; /* or array: what is entered at each depth */
} jt_json;

/* Read `bytes` of `text`, which must outlive the reader and its strings. Strings with
 * escapes are decoded into `strings`, others are views of the text. */
void jt_json_open(jt_json *j, const char *text, size_t bytes, jt_arena *strings,
                  jt_err *err);

/* The type of the value that is next. */
jt_json_type jt_json_peek(jt_json *j);

/* Go into an object or array; the next value must be one. */
void jt_json_enter(jt_json *j, jt_json_type type);

/* Move to the next item of the innermost object or array, whose name then is j->key.
 * False at its end, which is then left behind, and after an error. */
bool jt_json_next(jt_json *j);
bool jt_json_key_is(const jt_json *j, const char *name);

/* Take a value. An int has no fraction and no exponent and fits; a double is the
 * nearest one to what is written. A number of any size is had as its text. Strings may
 * hold NUL; they are not terminated. */
bool jt_json_bool(jt_json *j);
int64_t jt_json_int(jt_json *j);
double jt_json_double(jt_json *j);
jt_str jt_json_number(jt_json *j);
jt_str jt_json_str(jt_json *j);
/* A value of any type, checked, as it is written. */
jt_str jt_json_raw(jt_json *j);
void jt_json_skip(jt_json *j);

/* Check that nothing follows the document (a value at hand is skipped), and return what
 * became of it all. Errors: JT_E_FORMAT, JT_E_LIMIT (depth), JT_E_MEMORY. */
jt_status jt_json_finish(jt_json *j);

/* Refuse what was read: "line 3, column 14: " and the message, unless there is an error
 * already. Returns the status of the reader. */
jt_status jt_json_fail(jt_json *j, jt_status status, const char *fmt, ...)
    JT_PRINTF(3, 4);

#endif
