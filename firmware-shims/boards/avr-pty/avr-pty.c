/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs AVR firmware and gives its serial line to others:
 *   avr-pty FIRMWARE.elf NOISE            on a pseudo terminal, whose name it prints
 *   avr-pty FIRMWARE.elf NOISE SOCKET     on a unix socket that somebody listens to
 * NOISE (24 bits) is what a real board has from its pins. The chip's clock is not tied to real time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <simavr/avr_ioport.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>

#define STEPS_BETWEEN_POLLS 64

static int line_fd;
static int may_feed = 1;

static void die(const char *what) {
    fprintf(stderr, "avr-pty: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static void on_output(struct avr_irq_t *irq, uint32_t value, void *param) {
    uint8_t byte = (uint8_t)value;
    (void)irq;
    (void)param;
    if (write(line_fd, &byte, 1) != 1 && errno != EAGAIN) {
        die("write");
    }
}

static void on_xon(struct avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq;
    (void)value;
    (void)param;
    may_feed = 1;
}

static void on_xoff(struct avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq;
    (void)value;
    (void)param;
    may_feed = 0;
}

static int open_pty(void) {
    struct termios raw;
    char name[64];
    int master, slave;
    memset(&raw, 0, sizeof raw);
    cfmakeraw(&raw);
    if (openpty(&master, &slave, name, &raw, NULL) != 0) {
        die("openpty");
    }
    /* The slave stays open here, so that the line survives its users. */
    printf("char device redirected to %s\n", name);
    fflush(stdout);
    return master;
}

static int open_socket(const char *path) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address.sun_path) {
        die("path is too long");
    }
    strcpy(address.sun_path, path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        die(path);
    }
    return fd;
}

int main(int argc, char **argv) {
    elf_firmware_t firmware;
    avr_t *avr;
    avr_irq_t *input;
    uint32_t flags = 0, noise;
    unsigned steps = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: avr-pty FIRMWARE.elf NOISE [SOCKET]\n");
        return 2;
    }
    memset(&firmware, 0, sizeof firmware);
    if (elf_read_firmware(argv[1], &firmware) != 0) {
        die(argv[1]);
    }
    avr = avr_make_mcu_by_name("atmega328p");
    if (avr == NULL || avr_init(avr) != 0) {
        die("atmega328p");
    }
    firmware.frequency = 16000000;
    avr_load_firmware(avr, &firmware);
    noise = (uint32_t)strtoul(argv[2], NULL, 0);
    avr->data[0x3E] = (uint8_t)noise; /* GPIOR0, 1 and 2 */
    avr->data[0x4A] = (uint8_t)(noise >> 8);
    avr->data[0x4B] = (uint8_t)(noise >> 16);

    line_fd = argc > 3 ? open_socket(argv[3]) : open_pty();
    avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
    flags &= ~(uint32_t)AVR_UART_FLAG_STDIO;
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_xon, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_xoff, NULL);
    input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);

    for (;;) {
        int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            fprintf(stderr, "avr-pty: the firmware has %s\n", state == cpu_Done ? "ended" : "crashed");
            return 1;
        }
        if (++steps % STEPS_BETWEEN_POLLS != 0 || !may_feed) {
            continue;
        }
        struct pollfd ready = {line_fd, POLLIN, 0};
        uint8_t byte;
        if (poll(&ready, 1, 0) == 1) {
            ssize_t got = read(line_fd, &byte, 1);
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EIO)) {
                return 0; /* the other end has gone */
            }
            if (got == 1) {
                avr_raise_irq(input, byte);
            }
        }
    }
}
