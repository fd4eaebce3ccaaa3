/* Threads of the library beside those of the program that uses it. */
#ifndef JT_THREAD_H
#define JT_THREAD_H

#include <pthread.h>

/* pthread_create of a thread that signals to the process do not reach: a thread that
 * waits for a key or for a signal hears them, and not another one in its place. */
int jt_thread_start(pthread_t *out, void *(*fn)(void *), void *arg);

#endif
