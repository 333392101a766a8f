/* A gateway's clocks as a test wants them. BEHIND_S turns the wall clock back for good: minutes after 1970, and no NTP to
 * tell it better. The file that HEADWATER_CLOCK names holds two numbers of 64 bits, ns: what is added to the wall clock and
 * to the boot line; it is looked at with every reading, so that a clock can be set while the agent runs. The file that
 * HEADWATER_BOOT_ID names stands for the kernel's boot id. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#ifndef BEHIND_S
#define BEHIND_S 0L
#endif

static const volatile int64_t *shifts;

__attribute__((constructor)) static void find_shifts(void) {
  const char *path = getenv("HEADWATER_CLOCK");
  if (!path) return;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  void *page = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
  if (page != MAP_FAILED) shifts = page;
  close(fd);
}

static void shift(struct timespec *at, int64_t by) {
  int64_t ns = at->tv_nsec + by % 1000000000;
  at->tv_sec += by / 1000000000;
  if (ns < 0) ns += 1000000000, at->tv_sec -= 1;
  if (ns >= 1000000000) ns -= 1000000000, at->tv_sec += 1;
  at->tv_nsec = ns;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  int failed = (int)syscall(SYS_clock_gettime, clock, at);
  if (failed) return failed;
  if (clock == CLOCK_REALTIME) {
    at->tv_sec -= BEHIND_S;
    if (shifts) shift(at, shifts[0]);
  }
  /* Not MONOTONIC: by that clock processes wait in the kernel, which knows nothing of this. */
  if (shifts && (clock == CLOCK_BOOTTIME || clock == CLOCK_MONOTONIC_RAW)) shift(at, shifts[1]);
  return 0;
}

int adjtimex(struct timex *state) {
  memset(state, 0, sizeof *state);
  state->status = STA_UNSYNC;
  state->maxerror = 16000000;
  return TIME_ERROR;
}

static int makes(int flags) { return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE; }

static int opened(const char *path, int flags, mode_t mode) {
  const char *boot_id = getenv("HEADWATER_BOOT_ID");
  if (boot_id && !strcmp(path, "/proc/sys/kernel/random/boot_id")) path = boot_id;
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = makes(flags) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = makes(flags) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return opened(path, flags, mode);
}
