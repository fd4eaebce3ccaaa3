/* Output folders that appear whole or not at all. */
#ifndef JT_MAKE_FOLDER_H
#define JT_MAKE_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "junto/status.h"

bool jt_is_folder(const char *path);

/* A folder that is filled under the name "PATH.part" and renamed. */
typedef struct jt_folder {
    char *path, *part;
} jt_folder;

/* JT_E_IO when there is something of either name already. */
jt_status jt_folder_open(jt_folder *out, const char *path, jt_err *err);
/* Rename; *bytes is the size of all its files. On failure the unfinished folder is
 * removed. */
jt_status jt_folder_commit(jt_folder *folder, uint64_t *bytes, jt_err *err);
void jt_folder_abort(jt_folder *folder); /* remove it and its files */

/* Copy file `name` from folder to folder, if it is there. */
jt_status jt_folder_copy(const char *from, const char *to, const char *name,
                         bool *copied, jt_err *err);

#endif
