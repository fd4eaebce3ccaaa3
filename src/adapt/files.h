/* Adapters in files: what the formats share. */
#ifndef JT_ADAPT_FILES_H
#define JT_ADAPT_FILES_H

#include "adapt/adapter.h"
#include "junto/safetensors.h"

/* One file or folder each. The model may be NULL for those that can do without. */
jt_status jt_adapter_read_junto(jt_adapter **out, const char *path,
                                const jt_safetensors *file, jt_err *err);
jt_status jt_adapter_read_gguf(jt_adapter **out, const char *path, const jt_gguf *file,
                               jt_err *err);
jt_status jt_adapter_read_peft(jt_adapter **out, const char *folder,
                               const jt_model *model, jt_err *err);
jt_status jt_adapter_read_peft_memory(jt_adapter **out, const char *config,
                                      size_t config_bytes, const void *data,
                                      size_t bytes, const jt_model *model, jt_err *err);
jt_status jt_adapter_write_junto(const jt_adapter *adapter, const char *path,
                                 jt_err *err);
jt_status jt_adapter_write_gguf(const jt_adapter *adapter, const char *path,
                                const jt_model *model, jt_err *err);
jt_status jt_adapter_write_peft(const jt_adapter *adapter, const char *folder,
                                const jt_model *model, jt_err *err);

/* The same from memory, for files that are no folder. */
jt_status jt_adapter_open_memory(jt_adapter **out, const void *data, size_t bytes,
                                 const jt_model *model, jt_err *err);

/* All values of a tensor of floats (F32, F16, BF16, F64) as F32; of whole numbers (I32,
 * I64) as int32. Errors name it: JT_E_FORMAT (another type, numbers that do not fit).
 */
jt_status jt_safetensor_floats(float *to, const jt_safetensor *t, jt_err *err);
jt_status jt_safetensor_ints(int32_t *to, const jt_safetensor *t, jt_err *err);
size_t jt_safetensor_values(const jt_safetensor *t);

/* Begin a file at `path` ("DIR/NAME"). */
jt_status jt_safetensors_begin(jt_safetensors_writer **out, const char *path,
                               jt_err *err);

#endif
