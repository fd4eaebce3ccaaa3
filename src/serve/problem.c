#include "serve/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "serve/buffer.h"

static bool refuse(jt_problem *p, unsigned status, const char *param, const char *code,
                   const char *text)
{
    enum { SOON = 1 };
    *p = (jt_problem){.status = status, .code = code};
    snprintf(p->param, sizeof p->param, "%s", param ? param : "");
    jt_fail(&p->err, JT_E_ARG, "%s", text); /* masks control characters */
    p->retry = status == 429 || status == 503 ? SOON : 0;
    return false;
}

bool jt_refuse(jt_problem *p, unsigned status, const char *param, const char *code,
               const char *fmt, ...)
{
    char text[sizeof p->err.msg];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return refuse(p, status, param, code, text);
}

bool jt_refuse_err(jt_problem *p, const char *param, const jt_err *err)
{
    bool asked = err->code == JT_E_ARG || err->code == JT_E_FORMAT ||
                 err->code == JT_E_LIMIT || err->code == JT_E_UNSUPPORTED;
    char text[sizeof err->msg];
    memcpy(text, err->msg, sizeof text);
    return refuse(p, asked ? 400 : 500, param, NULL, text);
}

static const char *type_of(unsigned status)
{
    if (status == 429)
        return "rate_limit_error";
    return status >= 500 ? "server_error" : "invalid_request_error";
}

static json_t *text_or_null(const char *text)
{
    return text && *text ? json_string(text) : json_null();
}

json_t *jt_problem_json(const jt_problem *p)
{
    jt_buffer text = {.data = (char *)p->err.msg, .len = strlen(p->err.msg)};
    return json_pack("{s{so ss so so}}", "error", "message", jt_buffer_json(&text),
                     "type", p->type ? p->type : type_of(p->status), "param",
                     text_or_null(p->param), "code", text_or_null(p->code));
}
