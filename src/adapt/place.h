/* Adapters between the parts of layers, at work. */
#ifndef JT_ADAPT_PLACE_H
#define JT_ADAPT_PLACE_H

#include "adapt/attach.h"

/* What to put into chunk->between, in scratch; NULL where nothing stands at places. */
const jt_between *jt_attached_between(jt_attached *attached, jt_context *ctx);

#endif
