/* SPDX-License-Identifier: Apache-2.0 */
/* What the firmware uses of an Arm MPS2 board with the AN385 image (Cortex-M3 at 25 MHz), as QEMU emulates it. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

/* UART0 (CMSDK APB UART) */
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u) /* bit 0: TX full, bit 1: RX full */
#define UART_CTRL REGISTER(0x40004008u)  /* bit 0: TX on, bit 1: RX on, bit 3: RX interrupt */
#define UART_INT_CLEAR REGISTER(0x4000400Cu)
#define UART_BAUD_DIV REGISTER(0x40004010u)
#define UART_TX_FULL 1u
#define UART_RX_FULL 2u

/* FPGAIO: a free-running 32-bit counter behind a prescaler */
#define COUNTER REGISTER(0x40028018u)
#define COUNTER_PRESCALE REGISTER(0x4002801Cu)

#define SYSTICK_CTRL REGISTER(0xE000E010u)
#define SYSTICK_RELOAD REGISTER(0xE000E014u)
#define NVIC_ENABLE REGISTER(0xE000E100u)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define SCB_AIRCR_RESET 0x05FA0004u

#define CLOCK_HZ 25000000u

/* Where an emulator may put noise: `-device loader,addr=0x2000fff8,data=N,data-len=4`. */
#define NOISE REGISTER(0x2000FFF8u)
/* Survives a reset, as no one clears it. */
#define BOOTS REGISTER(0x2000FFFCu)

#endif
