/* The models that a server offers by name. */
#ifndef JUNTO_CLI_SERVE_MODELS_H
#define JUNTO_CLI_SERVE_MODELS_H

#include "templates.h"

typedef struct serve_model serve_model;

typedef struct serve_models {
    serve_model *list;
    jt_server_offer *offers; /* [count] */
    size_t count;
} serve_models;

/* Models as they are given, "PATH", "NAME" of the shelf or "ALIAS=PATH"; with none, all
 * of the shelf. Nothing is loaded; then each is as `store` asks. `template` and `store`
 * must live as long. Close in every case. JT_E_ARG (an empty shelf, a name of several),
 * JT_E_MEMORY. */
jt_status serve_models_open(serve_models *out, const cli_list *given,
                            const cli_template_args *template,
                            const jt_store_options *store, jt_err *err);
void serve_models_close(serve_models *models);

#endif
