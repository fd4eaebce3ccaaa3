/* The division of a memory budget, and the store that a session gets of it. */
#ifndef JT_RUN_BUDGET_H
#define JT_RUN_BUDGET_H

#include "run/session.h"

/* Give the session of a model that was loaded apart its store, scratch and slots, all
 * within the budget; its context is there. One beside another gets the store of that.
 * JT_E_ARG, JT_E_LIMIT (the budget is too small: says what would do), errors of
 * jt_cached_new and jt_cached_open. */
jt_status jt_session_open_store(jt_session *session, const jt_session_options *o,
                                jt_err *err);

#endif
