/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.c - what counts as UTF-8 (R2). */
#include "wire.h"

/* The bytes that follow this first byte in UTF-8, or -1 if none may begin so. */
static int utf8_followers(unsigned char first)
{
    if (first < 0x80)
        return 0;
    if (first >= 0xc2 && first <= 0xdf)
        return 1;
    if (first >= 0xe0 && first <= 0xef)
        return 2;
    if (first >= 0xf0 && first <= 0xf4)
        return 3;
    return -1;
}

/* Overlong forms, surrogates and what is too high all show in the second byte. */
static bool utf8_second_is_good(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xe0: return second >= 0xa0;
    case 0xed: return second <= 0x9f;
    case 0xf0: return second >= 0x90;
    case 0xf4: return second <= 0x8f;
    default: return true;
    }
}

bool wire_is_utf8(const char *bytes, size_t len)
{
    const unsigned char *p = (const unsigned char *)bytes, *end = p + len;

    while (p < end) {
        unsigned char first = *p++;
        int followers = utf8_followers(first);
        if (followers < 0 || end - p < followers)
            return false;
        if (followers > 0 && !utf8_second_is_good(first, *p))
            return false;
        for (; followers > 0; followers--)
            if ((*p++ & 0xc0) != 0x80)
                return false;
    }
    return true;
}
