#include "junto/junto.h"

const char *jt_version(void)
{
    return JT_VERSION;
}
