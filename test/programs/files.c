// SPDX-License-Identifier: Apache-2.0
/*
 * Files: written, sought, listed, described, renamed and removed below a directory that it is
 * given; what is printed is the same on every file system. The directory is left with one file in
 * it, "kept".
 *
 *     files DIRECTORY
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { BIG = 5 << 20 };

/** Names in a directory, sorted, with kind and size. */
static void list(const char *path)
{
    char names[64][256];
    int count = 0;
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        CHECK(count < 64);
        snprintf(names[count++], sizeof names[0], "%s", entry->d_name);
    }
    CHECK(closedir(directory) == 0);
    qsort(names, (size_t)count, sizeof names[0], (int (*)(const void *, const void *))strcmp);
    printf("%d entries:", count);
    for (int i = 0; i < count; i++) {
        char full[2 * sizeof names];
        struct stat s;
        snprintf(full, sizeof full, "%s/%s", path, names[i]);
        CHECK(lstat(full, &s) == 0);
        if (S_ISREG(s.st_mode)) {
            printf(" %s (%lld)", names[i], (long long)s.st_size);
        } else {
            printf(" %s%s", names[i], S_ISDIR(s.st_mode) ? "/" : S_ISLNK(s.st_mode) ? "@" : "?");
        }
    }
    printf("\n");
}

static void failing(const char *what, int result)
{
    int number = errno;
    printf("%s: %d %s\n", what, result, result == -1 ? strerror(number) : "");
}

static void streams(void)
{
    FILE *file = fopen("text", "w+");
    CHECK(file != NULL);
    for (int i = 0; i < 1000; i++) {
        fprintf(file, "line %d of the text\n", i);
    }
    CHECK(fseek(file, 50, SEEK_SET) == 0);
    char line[80];
    CHECK(fgets(line, sizeof line, file) != NULL);
    printf("%s", line);
    CHECK(fseek(file, -10, SEEK_END) == 0 && fgets(line, sizeof line, file) != NULL);
    printf("%s%ld\n", line, ftell(file));
    CHECK(fclose(file) == 0);
    file = fopen("text", "a");
    CHECK(file != NULL && fputs("appended\n", file) >= 0 && fclose(file) == 0);
}

static void blocks(void)
{
    unsigned char *data = malloc(BIG), *again = calloc(1, BIG);
    uint64_t seed = 3;
    CHECK(data != NULL && again != NULL);
    for (size_t i = 0; i < BIG; i += 8) {
        uint64_t value = next_random(&seed);
        memcpy(data + i, &value, 8);
    }
    int fd = open("blocks", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0 && write(fd, data, BIG) == BIG && lseek(fd, 0, SEEK_CUR) == BIG);
    CHECK(pread(fd, again, BIG, 0) == BIG && memcmp(data, again, BIG) == 0);
    CHECK(pwrite(fd, "hole", 4, BIG + 100000) == 4 && lseek(fd, -2, SEEK_END) == BIG + 100002);
    CHECK(read(fd, again, 10) == 2 && memcmp(again, "le", 2) == 0 && read(fd, again, 10) == 0);
    CHECK(pread(fd, again, 10, BIG + 50) == 10 && again[0] == 0 && again[9] == 0);
    CHECK(ftruncate(fd, 1000) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    struct iovec in[3] = {{again, 7}, {again + 7, 500}, {again + 507, 5000}};
    CHECK(readv(fd, in, 3) == 1000 && memcmp(data, again, 1000) == 0);
    struct iovec out[2] = {{(void *)(uintptr_t) "two ", 4}, {(void *)(uintptr_t) "parts", 5}};
    CHECK(writev(fd, out, 2) == 9 && lseek(fd, -9, SEEK_END) == 1000);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && S_ISREG(s.st_mode));
    printf("blocks: %lld bytes, mode %o, links %d, data %016" PRIx64 "\n", (long long)s.st_size,
           s.st_mode & 0777, (int)s.st_nlink, fnv(FNV_START, data, BIG));
    int other = dup(fd);
    CHECK(other > fd && lseek(other, 5, SEEK_SET) == 5 && lseek(fd, 0, SEEK_CUR) == 5 &&
          close(other) == 0);
    int flags = fcntl(fd, F_GETFL);
    CHECK((flags & O_ACCMODE) == O_RDWR && close(fd) == 0 && close(fd) == -1 && errno == EBADF);
    time_t now = time(NULL);
    CHECK(s.st_mtime > now - 3600 && s.st_mtime <= now + 60);
    free(data);
    free(again);
}

int main(int argc, char **argv)
{
    char here[PATH_MAX], path[PATH_MAX];
    struct stat s;
    CHECK(argc == 2);
    umask(022);
    CHECK(chdir(argv[1]) == 0 && getcwd(here, sizeof here) != NULL && strcmp(here, argv[1]) == 0);
    list(".");
    streams();
    blocks();
    CHECK(mkdir("below", 0755) == 0 && rename("text", "below/moved") == 0 &&
          chmod("below/moved", 0600) == 0);
    CHECK(stat("below/moved", &s) == 0);
    printf("moved: %lld bytes, mode %o\n", (long long)s.st_size, s.st_mode & 0777);
    CHECK(access("below/moved", R_OK) == 0 && symlink("moved", "below/link") == 0);
    ssize_t length = readlink("below/link", path, sizeof path);
    CHECK(length == 5 && memcmp(path, "moved", 5) == 0 && stat("below/link", &s) == 0 &&
          S_ISREG(s.st_mode));
    list(".");
    list("below");
    failing("open of nothing", open("nothing", O_RDONLY));
    failing("open for writing of a directory", open("below", O_WRONLY));
    failing("a file as directory", open("blocks/x", O_RDONLY));
    failing("once more", open("blocks", O_CREAT | O_EXCL | O_RDWR, 0600));
    failing("mkdir of what is there", mkdir("below", 0755));
    failing("rmdir of what is not empty", rmdir("below"));
    failing("unlink of nothing", unlink("nothing"));
    failing("rename of nothing", rename("nothing", "something"));
    CHECK(snprintf(path, sizeof path, "%s/below/moved", here) > 0 && unlink(path) == 0);
    CHECK(unlink("below/link") == 0 && rmdir("below") == 0 && rename("blocks", "kept") == 0);
    CHECK(truncate("kept", 4096) == 0);
    list(".");
    return 0;
}
