/* Lists of names for messages. */
#ifndef JT_BASE_JOIN_H
#define JT_BASE_JOIN_H

#include <stddef.h>

/* "llama, qwen2, ..." of name(0), name(1), .. until NULL; whole names only, as many as
 * there is room for. */
void jt_join_names(char *text, size_t room, const char *(*name)(size_t i));

#endif
