/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Demo firmware: a ramp and a count every 10 ms, all of the link, and a KNOB for tests.
 * The receive interrupt stamps the first byte of each frame; the main loop does the rest and sleeps.
 */
#include "board.h"
#include "headwater_link.h"

static const hw_link_field FIELDS[] HW_LINK_ROM = {
    {HW_LINK_U32, 0, "count", "1"},
    {HW_LINK_I16, -3, "ramp", "V"},
};
static const hw_link_stream STREAMS[] HW_LINK_ROM = {{"ramp", 10000, 2, FIELDS}};

/* The fastest a host may ask for: 100 us is more than this line carries, so that tests can fill the queue. */
#define PERIOD_US_MIN 100
#define PERIOD_US_MAX 10000000

static uint8_t rx[64], tx[512], ring_bytes[128];
static hw_link_rx_ring ring;
static hw_link_stream_state states[1];
static const hw_link_config CONFIG = {HW_LINK_CAP_CONFIG | HW_LINK_CAP_COMMAND,
                                      HW_LINK_T2_FIRST_BYTE,
                                      1000,
                                      100,
                                      "mps2-an385-c",
                                      "1.0.0",
                                      STREAMS,
                                      states,
                                      1,
                                      rx,
                                      sizeof rx,
                                      tx,
                                      sizeof tx};
static hw_link_device device;
static hw_link_clock clock_us;
static uint32_t period_us = 10000, count;
static uint8_t enabled = 1, reset_wanted;

void uart_interrupt(void);
void uart_interrupt(void) {
    /* Cleared first: a byte that comes after the last look asks again. Cleared last, it would wait for ever. */
    UART_INT_CLEAR = UART_RX_FULL;
    while (UART_STATE & UART_RX_FULL) {
        uint32_t now = COUNTER;
        hw_link_rx_ring_push(&ring, (uint8_t)UART_DATA, now);
    }
}

/* Wakes the main loop. */
void tick_interrupt(void);
void tick_interrupt(void) {}

static void obey_config(const hw_link_request *request, uint64_t now_us) {
    if (request->code == HW_LINK_KEY_ENABLED) {
        enabled = (uint8_t)(request->value != 0);
        hw_link_reply_value(&device, HW_LINK_REPLY_OK, enabled, now_us);
    } else if (request->code != HW_LINK_KEY_PERIOD_US) {
        hw_link_reply(&device, HW_LINK_REPLY_UNKNOWN, NULL, 0, now_us);
    } else if (request->value < PERIOD_US_MIN || request->value > PERIOD_US_MAX) {
        hw_link_reply_value(&device, HW_LINK_REPLY_BAD_VALUE, (int32_t)period_us, now_us);
    } else {
        period_us = (uint32_t)request->value;
        hw_link_reply_value(&device, HW_LINK_REPLY_OK, request->value, now_us);
        hw_link_set_period_us(&device, 0, period_us);
    }
}

static void sample(uint64_t now_us) {
    uint8_t row[6];
    uint8_t *at = hw_link_put_u32(row, count);
    hw_link_put_i16(at, (int16_t)(count % 2000u) - 1000);
    count++;
    hw_link_sample(&device, 0, now_us, 0, 1, row, sizeof row);
}

static void obey_command(const hw_link_request *request, uint64_t now_us) {
    switch (request->code) {
        case HW_LINK_COMMAND_RESET:
            reset_wanted = 1;
            break;
        case HW_LINK_COMMAND_IDENTIFY:
            hw_link_log(&device, HW_LINK_INFO, "here I am", 9, now_us);
            break;
        case HW_LINK_COMMAND_SAMPLE_ONCE:
            sample(now_us);
            break;
        case HW_LINK_COMMAND_RESET_COUNTERS:
            hw_link_reset_counters(&device);
            break;
        default:
            hw_link_reply(&device, HW_LINK_REPLY_UNKNOWN, NULL, 0, now_us);
            return;
    }
    hw_link_reply(&device, HW_LINK_REPLY_OK, NULL, 0, now_us);
}

static void hear(uint64_t now_us) {
    uint8_t stamped;
    uint32_t counter;
    int16_t byte;
    while ((byte = hw_link_rx_ring_pop(&ring, &stamped, &counter)) >= 0) {
        hw_link_request request;
        /* A byte may have come after `now_us` was read. */
        uint64_t t_us = hw_link_clock_now(&clock_us, COUNTER);
        if (stamped) {
            t_us = hw_link_clock_before(&clock_us, counter);
        }
        if (!hw_link_receive(&device, (uint8_t)byte, t_us, &request)) {
            continue;
        }
        if (request.is_command) {
            obey_command(&request, now_us);
        } else {
            obey_config(&request, now_us);
        }
    }
}

static uint8_t send(void) {
    uint8_t sent = 0;
    while (!(UART_STATE & UART_TX_FULL) && sent < 64) {
        int16_t byte = hw_link_next_byte(&device, hw_link_clock_now(&clock_us, COUNTER));
        if (byte < 0) {
            break;
        }
        UART_DATA = (uint8_t)byte;
        sent++;
    }
    return sent;
}

int main(void) {
    uint64_t next_us = 0;
    COUNTER_PRESCALE = CLOCK_HZ / 1000000u - 1u;
    BOOTS = BOOTS + 1u;
    hw_link_rx_ring_init(&ring, ring_bytes, sizeof ring_bytes);
    if (hw_link_init(&device, &CONFIG, NOISE ^ BOOTS * 0x9E3779B1u) != HW_LINK_QUEUED) {
        return 1;
    }
    UART_BAUD_DIV = CLOCK_HZ / 115200u;
    UART_CTRL = 0xBu;
    NVIC_ENABLE = 1u;
    SYSTICK_RELOAD = CLOCK_HZ / 1000u - 1u;
    SYSTICK_CTRL = 7u;
    for (;;) {
        uint64_t now_us = hw_link_clock_now(&clock_us, COUNTER);
        hear(now_us);
        hw_link_poll(&device, now_us);
        /* Before a restart the queue must run empty. */
        if (enabled && !reset_wanted && now_us >= next_us) {
            sample(now_us);
            next_us = now_us + period_us;
        }
        if (reset_wanted && hw_link_is_idle(&device)) {
            SCB_AIRCR = SCB_AIRCR_RESET;
        }
        if (send() == 0 && ring.in == ring.out) {
            __asm__ volatile("wfi");
        }
    }
}
