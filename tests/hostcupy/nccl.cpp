// NCCL's sums between the processes of this machine, through files in /dev/shm; the rest refuses (__init__.py).
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>
#include <time.h>

struct Id { char text[128]; };
struct Comm { Id id; int size, rank; long sums; };
enum { OK = 0, INVALID = 4, INT32 = 2, INT64 = 4, FLOAT = 7, DOUBLE = 8 };

extern "C" { long hostcupy_sums; }

static std::string file(const Comm *c, long sum, int rank) {
    return "/dev/shm/hostcupy-" + std::string(c->id.text) + "-" + std::to_string(sum) + "-" + std::to_string(rank);
}

template <class T> static int add_up(const void *from, void *to, size_t n, Comm *c) {
    std::string own = file(c, c->sums, c->rank), draft = own + ".draft";
    FILE *f = fopen(draft.c_str(), "wb");
    if (!f || fwrite(from, sizeof(T), n, f) != n || fclose(f)) return INVALID;
    rename(draft.c_str(), own.c_str());  // now it is complete
    std::vector<T> sum(n), part(n);
    for (int rank = 0; rank < c->size; rank++) {  // in the order of the ranks: the same sum in every process
        std::string name = file(c, c->sums, rank);
        while (!(f = fopen(name.c_str(), "rb"))) usleep(100);
        if (fread(part.data(), sizeof(T), n, f) != n) return INVALID;
        fclose(f);
        for (size_t i = 0; i < n; i++) sum[i] += part[i];
    }
    memcpy(to, sum.data(), n * sizeof(T));
    unlink(file(c, c->sums++ - 1, c->rank).c_str());  // all have begun this sum, so all have read the one before
    return OK;
}

extern "C" {
int ncclGetVersion(int *version) { *version = 22703; return OK; }
const char *ncclGetErrorString(int) { return "hostcupy's NCCL refuses"; }
int ncclGetUniqueId(Id *id) { snprintf(id->text, sizeof id->text, "%d-%ld", getpid(), (long)time(nullptr)); return OK; }
int ncclCommInitRankConfig(Comm **c, int size, Id id, int rank, void *) { *c = new Comm{id, size, rank, 0}; return OK; }
int ncclCommDestroy(Comm *c) { unlink(file(c, c->sums - 1, c->rank).c_str()); return OK; }
int ncclCommAbort(Comm *c) { return ncclCommDestroy(c); }
int ncclCommGetAsyncError(Comm *, int *error) { *error = OK; return OK; }
int ncclCommCount(Comm *c, int *size) { *size = c->size; return OK; }
int ncclCommUserRank(Comm *c, int *rank) { *rank = c->rank; return OK; }
int ncclGroupStart() { return OK; }
int ncclGroupEnd() { return OK; }
int ncclAllReduce(const void *from, void *to, size_t n, int type, int operation, Comm *c, void *) {
    if (operation != 0) return INVALID;  // sums only
    hostcupy_sums++;
    switch (type) {
    case INT32: return add_up<int32_t>(from, to, n, c);
    case INT64: return add_up<int64_t>(from, to, n, c);
    case FLOAT: return add_up<float>(from, to, n, c);
    case DOUBLE: return add_up<double>(from, to, n, c);
    default: return INVALID;
    }
}
}
