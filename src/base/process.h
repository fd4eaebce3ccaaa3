/* What this process takes, and what there is; how much it may take in all is
 * jt_machine_memory of junto/store.h. */
#ifndef JT_BASE_PROCESS_H
#define JT_BASE_PROCESS_H

#include <stdint.h>

/* Bytes of memory that the process occupies now; 0 where the system does not say. */
uint64_t jt_process_memory(void);

/* Bytes of memory that it could take beside them, with what is cached of files; 0 where
 * the system does not say. */
uint64_t jt_machine_available(void);

#endif
