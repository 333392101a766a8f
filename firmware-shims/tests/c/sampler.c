/* SPDX-License-Identifier: Apache-2.0 */
/* A minimal sampler that uses all of the link, to be linked bare: its size is what the link costs. */
#include "headwater_link.h"

#define RX_BYTES 64
#define TX_BYTES 256

static const hw_link_field FIELDS[] HW_LINK_ROM = {{HW_LINK_I16, -2, "temperature", "Cel"}};
static const hw_link_stream STREAMS[] HW_LINK_ROM = {{"climate", 10000, 1, FIELDS}};

/* The linker's sections are read back by these names. */
uint8_t rx_buffer[RX_BYTES], tx_buffer[TX_BYTES];
static hw_link_stream_state states[1];
static const hw_link_config config = {HW_LINK_CAP_CONFIG | HW_LINK_CAP_COMMAND, HW_LINK_T2_DELIMITER, 1000, 50,
                                      "sampler-1", "1.0.0", STREAMS, states, 1,
                                      rx_buffer, sizeof rx_buffer, tx_buffer, sizeof tx_buffer};
static hw_link_device device;
static hw_link_clock clock_us;
static uint32_t period_us = 10000;

/* Stand in for a UART and a counter. */
volatile uint8_t uart_state, uart_data;
volatile uint32_t counter;

/* A bare link has no library, and compilers call these for copies and loops. */
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

static void obey(const hw_link_request *request, uint64_t now_us) {
    if (!request->is_command && request->code == HW_LINK_KEY_PERIOD_US && request->value > 0) {
        period_us = (uint32_t)request->value;
        hw_link_reply_value(&device, HW_LINK_REPLY_OK, request->value, now_us);
        hw_link_set_period_us(&device, 0, period_us);
    } else if (request->is_command && request->code == HW_LINK_COMMAND_RESET_COUNTERS) {
        hw_link_reset_counters(&device);
        hw_link_reply(&device, HW_LINK_REPLY_OK, request->args, 0, now_us);
    } else {
        hw_link_reply(&device, HW_LINK_REPLY_UNKNOWN, request->args, 0, now_us);
    }
}

int main(void) {
    uint32_t last_us = 0;
    if (hw_link_init(&device, &config, counter) != 0) {
        return 1;
    }
    for (;;) {
        uint64_t now_us = hw_link_clock_now(&clock_us, counter);
        int16_t byte;
        if (uart_state & 2u) {
            hw_link_request request;
            if (hw_link_receive(&device, uart_data, now_us, &request)) {
                obey(&request, now_us);
            }
        }
        hw_link_poll(&device, now_us);
        if ((uint32_t)now_us - last_us >= period_us) {
            uint8_t row[2];
            last_us += period_us;
            hw_link_put_i16(row, (int16_t)uart_data);
            if (hw_link_sample(&device, 0, now_us, 0, 1, row, sizeof row) == HW_LINK_DROPPED) {
                hw_link_log(&device, HW_LINK_WARN, "full", 4, now_us);
            }
        }
        if (!(uart_state & 1u) && (byte = hw_link_next_byte(&device, now_us)) >= 0) {
            uart_data = (uint8_t)byte;
        }
    }
}
