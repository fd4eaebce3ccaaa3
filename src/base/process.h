/* What this process takes; what it may take is jt_machine_memory of junto/store.h. */
#ifndef JT_BASE_PROCESS_H
#define JT_BASE_PROCESS_H

#include <stdint.h>

/* Bytes of memory that the process occupies now; 0 where the system does not say. */
uint64_t jt_process_memory(void);

#endif
