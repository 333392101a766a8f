/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Demo firmware for an ATmega328P at 16 MHz (Arduino Uno, Nano): a ramp and a count every 10 ms, all of the
 * link. The receive interrupt stamps the first byte of each frame; the main loop does the rest and sleeps.
 */
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include <avr/wdt.h>

#include "headwater_link.h"

#define BAUD 115200UL

static const hw_link_field FIELDS[] HW_LINK_ROM = {
    {HW_LINK_U32, 0, "count", "1"},
    {HW_LINK_I16, -3, "ramp", "V"},
};
static const hw_link_stream STREAMS[] HW_LINK_ROM = {{"ramp", 10000, 2, FIELDS}};

#define PERIOD_US_MIN 100
#define PERIOD_US_MAX 10000000

static uint8_t rx[64], tx[256], ring_bytes[64];
static hw_link_rx_ring ring;
static hw_link_stream_state states[1];
static const hw_link_config CONFIG = {HW_LINK_CAP_CONFIG | HW_LINK_CAP_COMMAND,
                                      HW_LINK_T2_FIRST_BYTE,
                                      500,
                                      5000, /* a ceramic resonator */
                                      "atmega328p",
                                      "1.0.0",
                                      STREAMS,
                                      states,
                                      1,
                                      rx,
                                      sizeof rx,
                                      tx,
                                      sizeof tx};
static hw_link_device device;
static hw_link_clock ticks;
static volatile uint16_t overflows;
static uint32_t period_us = 10000, count;
static uint8_t enabled = 1, reset_wanted;

ISR(TIMER1_OVF_vect) { overflows++; }

/* The counter's half microseconds; with interrupts off, so that counter and pending overflow belong together. */
static uint32_t half_us_locked(void) {
    uint16_t low = TCNT1, high = overflows;
    if ((TIFR1 & _BV(TOV1)) && low < 0x8000u) {
        high++;
    }
    return (uint32_t)high << 16 | low;
}

static uint32_t half_us(void) {
    uint8_t status = SREG;
    uint32_t now;
    cli();
    now = half_us_locked();
    SREG = status;
    return now;
}

/* It wraps each 35 minutes; the loop reads it a thousand times a second. */
static uint64_t micros(void) { return hw_link_clock_now(&ticks, half_us()) >> 1; }

ISR(USART_RX_vect) {
    uint32_t now = half_us_locked();
    hw_link_rx_ring_push(&ring, UDR0, now);
}

static uint8_t eeprom_swap(uint8_t at, uint8_t more) {
    uint8_t value;
    EEAR = at;
    EECR |= _BV(EERE);
    value = EEDR;
    EEDR = (uint8_t)(value + more);
    EECR |= _BV(EEMPE);
    EECR |= _BV(EEPE);
    while (EECR & _BV(EEPE)) {
    }
    return value;
}

/* A counter in EEPROM, mixed with what an emulator may put into the spare registers. */
static uint32_t boot_nonce(void) {
    uint32_t noise = (uint32_t)GPIOR2 << 16 | (uint32_t)GPIOR1 << 8 | GPIOR0;
    uint8_t low = eeprom_swap(0, 1);
    uint8_t high = eeprom_swap(1, low == 0xFFu);
    return noise ^ ((uint32_t)high << 8 | low) * 0x9E3779B1u;
}

static void sample(uint64_t now_us) {
    uint8_t row[6];
    uint8_t *at = hw_link_put_u32(row, count);
    hw_link_put_i16(at, (int16_t)(count & 0x3FFu));
    count++;
    hw_link_sample(&device, 0, now_us, 0, 1, row, sizeof row);
}

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

static void hear(void) {
    uint8_t stamped;
    uint32_t counter;
    int16_t byte;
    while ((byte = hw_link_rx_ring_pop(&ring, &stamped, &counter)) >= 0) {
        hw_link_request request;
        /* A byte may have come after the clock was read last. */
        uint64_t now_us = micros();
        uint64_t t_us = stamped ? hw_link_clock_before(&ticks, counter) >> 1 : now_us;
        if (hw_link_receive(&device, (uint8_t)byte, t_us, &request)) {
            if (request.is_command) {
                obey_command(&request, now_us);
            } else {
                obey_config(&request, now_us);
            }
        }
    }
}

int main(void) {
    uint64_t next_us = 0;
    MCUSR = 0; /* else the watchdog stays on */
    wdt_disable();
    TCCR1B = _BV(CS11); /* 16 MHz / 8 */
    TIMSK1 = _BV(TOIE1);
    /* The main loop is woken a thousand times a second. */
    TCCR0A = _BV(WGM01);
    OCR0A = 249;
    TCCR0B = _BV(CS01) | _BV(CS00);
    TIMSK0 = _BV(OCIE0A);
    UBRR0 = (F_CPU / 4 / BAUD - 1) / 2;
    UCSR0A = _BV(U2X0);
    UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);
    hw_link_rx_ring_init(&ring, ring_bytes, sizeof ring_bytes);
    if (hw_link_init(&device, &CONFIG, boot_nonce()) != HW_LINK_QUEUED) {
        return 1;
    }
    sei();
    for (;;) {
        uint64_t now_us = micros();
        uint8_t busy = 0;
        hear();
        hw_link_poll(&device, now_us);
        /* Before a restart the queue must run empty. */
        if (enabled && !reset_wanted && now_us >= next_us) {
            sample(now_us);
            next_us = now_us + period_us;
        }
        while (UCSR0A & _BV(UDRE0)) {
            int16_t byte = hw_link_next_byte(&device, micros());
            if (byte < 0) {
                break;
            }
            UDR0 = (uint8_t)byte;
            busy = 1;
        }
        if (reset_wanted && hw_link_is_idle(&device)) {
            wdt_enable(WDTO_15MS);
            for (;;) {
            }
        }
        if (!busy && hw_link_is_idle(&device) && ring.in == ring.out) {
            sleep_mode();
        }
    }
}

EMPTY_INTERRUPT(TIMER0_COMPA_vect)
