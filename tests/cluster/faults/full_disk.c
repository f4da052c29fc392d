/* A disk that fills up. With this in LD_PRELOAD nothing can be written to files below the folder
 * FULL_DISK_BELOW while a file of that name with ".full" after it exists. As on a real disk, a
 * large write ends half way, and what was written stays.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int full(int fd)
{
    const char *folder = getenv("FULL_DISK_BELOW");
    char mark[4096], link[64], path[4096];
    struct stat about;
    if (!folder || snprintf(mark, sizeof mark, "%s.full", folder) >= (int)sizeof mark)
        return 0;
    if (access(mark, F_OK) || fstat(fd, &about) || !S_ISREG(about.st_mode))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t begins = strlen(folder);
    return length > (ssize_t)begins && !strncmp(path, folder, begins) && path[begins] == '/';
}

static int refuse(void)
{
    errno = ENOSPC;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define HALF_FROM 4096 /* a smaller write fails as a whole */

ssize_t write(int fd, const void *data, size_t size)
{
    if (!full(fd))
        return REAL(write)(fd, data, size);
    return size > HALF_FROM ? REAL(write)(fd, data, size / 2) : refuse();
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    if (!full(fd))
        return REAL(pwrite64)(fd, data, size, at);
    return size > HALF_FROM ? REAL(pwrite64)(fd, data, size / 2, at) : refuse();
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return pwrite64(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return full(fd) ? refuse() : REAL(writev)(fd, parts, count);
}
