/* All of libjunto. Each header stands alone; include the ones you need. */
#ifndef JUNTO_JUNTO_H
#define JUNTO_JUNTO_H

#include "junto/adapter.h"
#include "junto/audit.h"
#include "junto/chat.h"
#include "junto/choose.h"
#include "junto/compare.h"
#include "junto/convert.h"
#include "junto/dtype.h"
#include "junto/eval.h"
#include "junto/generate.h"
#include "junto/gguf.h"
#include "junto/grammar.h"
#include "junto/learn.h"
#include "junto/make.h"
#include "junto/measure.h"
#include "junto/model.h"
#include "junto/moe.h"
#include "junto/npy.h"
#include "junto/recipe.h"
#include "junto/report.h"
#include "junto/safetensors.h"
#include "junto/serve.h"
#include "junto/session.h"
#include "junto/shelf.h"
#include "junto/shrink.h"
#include "junto/simulate.h"
#include "junto/speculate.h"
#include "junto/status.h"
#include "junto/steer.h"
#include "junto/store.h"
#include "junto/template.h"
#include "junto/text.h"
#include "junto/tokenizer.h"
#include "junto/trace.h"
#include "junto/vocabulary.h"
#include "junto/watch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0" */
JT_API const char *jt_version(void);

#ifdef __cplusplus
}
#endif
#endif
