/* The wall clock of a gateway without a battery: minutes after 1970, and no NTP to tell it better. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
  int failed = (int)syscall(SYS_clock_gettime, clock, at);
  if (!failed && clock == CLOCK_REALTIME) at->tv_sec -= BEHIND_S;
  return failed;
}

int adjtimex(struct timex *state) {
  memset(state, 0, sizeof *state);
  state->status = STA_UNSYNC;
  state->maxerror = 16000000;
  return TIME_ERROR;
}
