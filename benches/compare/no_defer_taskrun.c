/* Loaded before Lockring by the row `variants`: refuses rings that ask for DEFER_TASKRUN, as kernels before
 * 6.1 do, so that the worker takes its next best set of flags. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <sys/syscall.h>

long syscall(long number, ...)
{
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == __NR_io_uring_setup && ((struct io_uring_params *)a[1])->flags & (1U << 13)) {
        errno = EINVAL;
        return -1;
    }
    static long (*real)(long, ...);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
