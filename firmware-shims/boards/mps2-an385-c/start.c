/* SPDX-License-Identifier: Apache-2.0 */
/* From reset to main, without a C library. */
#include <stddef.h>
#include <stdint.h>

#include "board.h"

extern uint32_t data_start, data_end, data_load, bss_start, bss_end, stack_top;

int main(void);
void uart_interrupt(void);
void tick_interrupt(void);
void reset(void);

/* Compilers call these for copies and loops. */
void *memcpy(void *to, const void *from, size_t n);
void *memcpy(void *to, const void *from, size_t n) {
    uint8_t *t = (uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;
    while (n-- != 0) {
        *t++ = *f++;
    }
    return to;
}

void *memset(void *to, int value, size_t n);
void *memset(void *to, int value, size_t n) {
    uint8_t *t = (uint8_t *)to;
    while (n-- != 0) {
        *t++ = (uint8_t)value;
    }
    return to;
}

void reset(void) {
    uint32_t *to, *from = &data_load;
    for (to = &data_start; to < &data_end;) {
        *to++ = *from++;
    }
    for (to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    main();
    for (;;) {
    }
}

/* A fault restarts the board: a new boot nonce tells the host. */
static void fault(void) {
    SCB_AIRCR = SCB_AIRCR_RESET;
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const VECTORS[17] = {
    &stack_top, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault, 0, 0, 0, 0, (const void *)fault, (const void *)fault, 0,
    (const void *)fault, (const void *)tick_interrupt, (const void *)uart_interrupt,
};
