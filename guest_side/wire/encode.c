/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode.c - messages to bytes. No printf: a science program may have called
 * setlocale, and then %g writes a comma.
 */
#include "wire.h"

#include <string.h>

#define NUMBER_HIGHEST 1e30
#define SIGNIFICANT 15 /* digits that every double holds */
#define TWO_TO_53 9007199254740992.0 /* from here on a double has no fraction */
#define BILLION 1000000000u
#define LIMBS 4 /* of nine digits each: 36 digits hold 1e30 */

void wire_begin(struct wire_writer *writer, char *buffer, size_t size)
{
    *writer = (struct wire_writer){buffer, size, 0, false};
}

/* Write a whole line or none. */
static void put_line(struct wire_writer *w, const char *key, const char *value, size_t len)
{
    size_t key_len = strlen(key), space = key_len > 0 ? 1 : 0;

    if (w->full || w->size - w->len < key_len + space + len + 1) {
        w->full = true;
        return;
    }
    memcpy(w->buffer + w->len, key, key_len);
    w->len += key_len;
    if (space)
        w->buffer[w->len++] = ' ';
    memcpy(w->buffer + w->len, value, len);
    w->len += len;
    w->buffer[w->len++] = '\n';
}

/* The most bytes of `text` that are allowed and do not end inside a character. */
static size_t text_length(const char *text)
{
    size_t len = strlen(text);

    if (len > WIRE_TEXT_MAX)
        for (len = WIRE_TEXT_MAX; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80;)
            len--;
    return len;
}

static void put_clean(struct wire_writer *w, const char *key, const char *text, unsigned char highest)
{
    char clean[WIRE_TEXT_MAX];
    size_t len = text_length(text), i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        clean[i] = (c < 0x20 && c != '\t') || c == 0x7f || c > highest ? '?' : text[i];
    }
    put_line(w, key, clean, len);
}

void wire_put_text(struct wire_writer *w, const char *key, const char *text)
{
    put_clean(w, key, text, 0xff);
}

void wire_put_any(struct wire_writer *w, const char *key, const char *text)
{
    put_clean(w, key, text, wire_is_utf8(text, strlen(text)) ? 0xff : 0x7e);
}

/* Write `value` with at least `width` digits; returns how many. */
static size_t digits_of(uint64_t value, size_t width, char *out)
{
    char reversed[20];
    size_t n = 0, i;

    while (value > 0 || n < width) {
        reversed[n++] = (char)('0' + value % 10);
        value /= 10;
    }
    for (i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

void wire_put_integer(struct wire_writer *w, const char *key, int64_t value)
{
    char text[24];
    size_t len = 0;

    if (value < 0)
        text[len++] = '-';
    len += digits_of(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 1, text + len);
    put_line(w, key, text, len);
}

static void double_limbs(uint32_t limbs[LIMBS])
{
    uint32_t carry = 0;
    int i;

    for (i = 0; i < LIMBS; i++) {
        uint32_t doubled = limbs[i] * 2 + carry;
        carry = doubled >= BILLION;
        limbs[i] = doubled - carry * BILLION;
    }
}

static size_t digits_of_limbs(const uint32_t limbs[LIMBS], char *out)
{
    size_t len;
    int i = LIMBS - 1;

    while (i > 0 && limbs[i] == 0)
        i--;
    for (len = digits_of(limbs[i], 1, out); i-- > 0;)
        len += digits_of(limbs[i], 9, out + len);
    return len;
}

/* A double above 2^53 is an integer times a power of two: exact by doubling. */
static size_t format_big(double value, char *out)
{
    uint32_t limbs[LIMBS] = {0};
    uint64_t mantissa;
    int doublings = 0, i;

    for (; value >= TWO_TO_53; value /= 2)
        doublings++;
    mantissa = (uint64_t)value;
    for (i = 0; i < LIMBS; i++, mantissa /= BILLION)
        limbs[i] = (uint32_t)(mantissa % BILLION);
    while (doublings-- > 0)
        double_limbs(limbs);
    return digits_of_limbs(limbs, out);
}

/* The integer part, a point, and as many decimals as make fifteen digits in all. */
static size_t format_small(double value, char *out)
{
    uint64_t whole = (uint64_t)value, scale = 1, decimals;
    size_t len = whole > 0 ? digits_of(whole, 1, out) : 0, places = 0;

    for (; len + places < SIGNIFICANT; places++)
        scale *= 10;
    decimals = (uint64_t)((value - (double)whole) * (double)scale + 0.5);
    if (decimals >= scale) {
        whole++;
        decimals -= scale;
    }
    len = digits_of(whole, 1, out);
    if (decimals == 0)
        return len;
    out[len++] = '.';
    len += digits_of(decimals, places, out + len);
    while (out[len - 1] == '0')
        len--;
    return len;
}

static size_t format_number(double value, double highest, char *out)
{
    if (!(value > 0))
        value = 0;
    if (value > highest)
        value = highest;
    return value < TWO_TO_53 ? format_small(value, out) : format_big(value, out);
}

void wire_put_number(struct wire_writer *w, const char *key, double value)
{
    char text[9 * LIMBS];

    put_line(w, key, text, format_number(value, NUMBER_HIGHEST, text));
}

void wire_put_fraction(struct wire_writer *w, double value)
{
    char text[9 * LIMBS];

    put_line(w, "", text, format_number(value, 1, text));
}
