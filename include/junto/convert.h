/* Conversion between GGUF files and Hugging Face folders. */
#ifndef JUNTO_CONVERT_H
#define JUNTO_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_convert_options {
    /* Type of the matrices: "f32", "f16", "bf16"; into GGUF also "q8_0", "q4_k", ...
     * NULL keeps theirs, except that folders get BF16 for block formats. Norms, biases
     * and routers stay F32 in GGUF; rows that are no whole blocks become F16. */
    const char *type;
    /* Of a file: "plain" (or NULL) stacks the experts of a layer; "experts" lays each
     * in one piece, aligned and with a checksum (docs/formats.md), as stores read it.
     */
    const char *layout;
    uint64_t shard_bytes; /* of a folder's files; 0: 5 GB */
    jt_progress progress;
} jt_convert_options;

typedef struct jt_convert_report {
    size_t tensors; /* as GGUF counts them */
    uint64_t bytes; /* written */
    bool tokenizer; /* was one written? */
} jt_convert_report;

/* Read `from` (GGUF file or folder) and write `to`: a GGUF file when the name ends in
 * ".gguf", otherwise a folder, which must not exist. Both are written beside (a folder
 * as "NAME.part") and renamed, so that nothing unfinished looks whole. Lossless but for
 * a change of type; FP8 becomes BF16. A file with checksums is held against them first.
 * `report` may be NULL. Errors: JT_E_ARG (type, layout, names), those of loading and
 * writing, JT_E_UNSUPPORTED (a family or a tensor that has no counterpart),
 * JT_E_INTERRUPTED. */
JT_API jt_status jt_convert(const char *from, const char *to,
                            const jt_convert_options *options,
                            jt_convert_report *report, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
