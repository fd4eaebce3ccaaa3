/* /v1/embeddings: texts as vectors. */
#ifndef JT_EMBEDDINGS_H
#define JT_EMBEDDINGS_H

#include "serve/server.h"

void jt_embed_texts(jt_server *server, const jt_http_call *call,
                    jt_http_answer *answer);

#endif
