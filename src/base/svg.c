#include "base/svg.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"

static const char *escape(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return (unsigned char)c < ' ' || c == 0x7f ? "?" : NULL;
    }
}

void jt_svg_text(FILE *out, const char *text)
{
    for (size_t left = strlen(text), n; left; text += n, left -= n) {
        const char *escaped = escape(*text);
        n = jt_utf8_char(text, left);
        if (escaped)
            fputs(escaped, out);
        else if (n)
            fwrite(text, 1, n, out);
        else
            fputs("\xef\xbf\xbd", out);
        n = n ? n : 1;
    }
}

double jt_tick_step(double range, int count)
{
    double rough = range / count, power = pow(10.0, floor(log10(rough)));
    double times = rough / power;
    return power * (times <= 1.0   ? 1.0
                    : times <= 2.0 ? 2.0
                    : times <= 5.0 ? 5.0
                                   : 10.0);
}
