/* The page at /: files that the build put into the program (src/serve/page/). */
#ifndef JT_PAGE_H
#define JT_PAGE_H

#include "serve/http.h"

typedef struct jt_page_file {
    const char *name, *text;
} jt_page_file;

extern const jt_page_file jt_page_files[]; /* the last has no name */

/* Whether `path` is one of the page's: "/" or "/page/NAME". */
bool jt_page_has(const char *path);
/* Answer with it. */
void jt_page_answer(const char *path, jt_http_answer *answer);

#endif
