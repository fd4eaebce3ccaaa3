/* Whether this program is built with a sanitizer: it then has memory of its own on top
 * of everything, and is slow. */
#ifndef SANITIZED_H
#define SANITIZED_H

#ifdef __has_feature /* clang */
#define SANITIZED_BY_CLANG \
    (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED_BY_CLANG 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* gcc */
#define SANITIZED_BY_GCC 1
#else
#define SANITIZED_BY_GCC 0
#endif

enum { SANITIZED = SANITIZED_BY_CLANG || SANITIZED_BY_GCC };

#endif
