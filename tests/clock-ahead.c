/* A clock that is off: loaded before a program (LD_PRELOAD), it lets that program's wall clock be CLOCK_AHEAD_SECONDS ahead
 * of the machine's. Clocks that only measure how long something takes stay as they are. libfaketime does more, and workerd
 * does not start under it. */

#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead(void)
{
    const char *seconds = getenv("CLOCK_AHEAD_SECONDS");
    return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int failed = (int)syscall(SYS_gettimeofday, now, zone);
    if (!failed)
        now->tv_sec += ahead();
    return failed;
}
