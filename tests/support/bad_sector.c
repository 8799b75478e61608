/* Put before libc (LD_PRELOAD), it gives one file a sector that cannot be read, as a disk that fails does.

   BAD_SECTOR has the number of the file's inode and the offset of the sector in it: a file that is renamed takes its
   sector along, and a new one of the same name has none. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long inode;
static long sector = -1;
static ssize_t (*real_pread64)(int, void *, size_t, off_t);

__attribute__((constructor)) static void begin(void)
{
    const char *given = getenv("BAD_SECTOR");
    real_pread64 = (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
    if (given && sscanf(given, "%lu:%ld", &inode, &sector) != 2)
        sector = -1;
}

ssize_t pread64(int file, void *to, size_t count, off_t offset)
{
    struct stat found;
    if (offset <= sector && sector < offset + (off_t)count && !fstat(file, &found) && found.st_ino == inode) {
        errno = EIO;
        return -1;
    }
    return real_pread64(file, to, count, offset);
}

ssize_t pread(int file, void *to, size_t count, off_t offset)
{
    return pread64(file, to, count, offset);
}
