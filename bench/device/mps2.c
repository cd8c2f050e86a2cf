/* A program without an operating system: it runs the self-test of policy.h on qemu's Cortex-M4, and tells the
   result by semihosting. */
#include <stdint.h>
#include "policy.h"

void start(void);
__attribute__((section(".vectors"), used)) static const uintptr_t vectors[2] = {0x20400000u, (uintptr_t)start};

static void host(int what, const void *argument) {
    register int r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

void start(void) {
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;  /* switch the floating-point unit on */
    __asm__ volatile("dsb; isb");
    {
        float error = policy_selftest() * 1e9f;
        unsigned number = error < 4e9f ? (unsigned)error : 4000000000u;
        char text[] = "selftest 0000000000e-9\n";
        for (int i = 18; i > 8; i--, number /= 10) text[i] = (char)('0' + number % 10);
        host(4, text);             /* SYS_WRITE0 */
        host(0x18, (void *)0x20026);  /* SYS_EXIT, the application is done */
    }
    for (;;) { }
}
