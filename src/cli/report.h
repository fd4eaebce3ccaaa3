/* A report as text and as JSON. */
#ifndef JUNTO_CLI_REPORT_H
#define JUNTO_CLI_REPORT_H

#include "common.h"

void report_print(const jt_report *report);
/* An object, or NULL without memory. */
json_t *report_json(const jt_report *report);

#endif
