/* What this process takes, and what it may take. */
#ifndef JT_BASE_PROCESS_H
#define JT_BASE_PROCESS_H

#include <stdint.h>

/* Bytes of memory that the process occupies now; 0 where the system does not say. */
uint64_t jt_process_memory(void);

/* Bytes that it may occupy: the machine's memory, or the limit of its control group if
 * that is less; 0 where the system does not say. */
uint64_t jt_machine_memory(void);

#endif
