// CUDA's runtime and driver without a GPU: what CuPy calls, by the names and C signatures that it declares.
//
// Device memory is the host's, filled with NaN. A stream's work is done when it is asked for, so events are nothing.
// A module is a library that g++ made; a launch calls a function in it. What the tests ask about is counted.
#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

typedef intptr_t I;  // pointers and handles, as CuPy has them
#define MAX_DEVICES 16
#define NONE Py_RETURN_NONE

long hostcupy_launches, hostcupy_waits, hostcupy_to_host, hostcupy_to_host_bytes, hostcupy_to_device, hostcupy_to_device_bytes;
int hostcupy_devices = 1;
static __thread int device;  // each thread has its own, as with CUDA
static size_t in_use[MAX_DEVICES];
static const size_t TOTAL = (size_t)32 << 30;

// ---- Devices ----
int hc_getDeviceCount(int s) { return hostcupy_devices; }
int hc_getDevice(int s) { return device; }
PyObject *hc_setDevice(int d, int s) {
    if (d < 0 || d >= hostcupy_devices) return PyErr_Format(PyExc_RuntimeError, "cudaErrorInvalidDevice: GPU %d of %d", d, hostcupy_devices);
    device = d;
    NONE;
}
int hc_driverGetVersion(int s) { return 12090; }
int hc_runtimeGetVersion(int s) { return 12090; }
int hc__getCUDAMajorVersion(int s) { return 12; }
PyObject *hc__ensure_context(void) { NONE; }
PyObject *hc__deviceEnsurePeerAccess(int d, int s) { NONE; }
int hc_deviceCanAccessPeer(int a, int b, int s) { return 0; }
int hc_deviceGetAttribute(int attribute, int d, int s) {
    switch (attribute) {  // those of an H100
    case 1: case 2: case 3: return 1024;  // threads in a block
    case 5: return 2147483647;            // blocks in a grid
    case 6: case 7: return 65535;
    case 8: return 49152;                 // shared memory of a block
    case 10: return 32;                   // threads in a warp
    case 16: return 132;                  // multiprocessors
    case 39: return 2048;                 // threads on each
    case 75: return 9;                    // compute capability 9.0
    case 81: return 233472;
    case 97: return 232448;
    case 106: return 32;
    default: return 0;
    }
}
PyObject *hc_getDeviceProperties(int d, int s) {
    return Py_BuildValue("{s:y,s:i,s:i,s:i,s:i,s:n}", "name", "hostcupy, no GPU", "major", 9, "minor", 0, "warpSize", 32,
                         "multiProcessorCount", 132, "totalGlobalMem", (Py_ssize_t)TOTAL);
}
I hc_ctxGetCurrent(int s) { return 1; }
int hc_ctxGetDevice(int s) { return device; }
PyObject *hc_ctxSetCurrent(I c, int s) { NONE; }
PyObject *hc_profilerStart(int s) { NONE; }
PyObject *hc_profilerStop(int s) { NONE; }

// ---- Memory ----
I hc_malloc(size_t n, int s) {
    void *p = NULL;
    if (posix_memalign(&p, 512, n ? n : 1)) { PyErr_NoMemory(); return 0; }
    memset(p, 0xff, n);  // NaN, so that nobody relies on zeros
    in_use[device] += malloc_usable_size(p);
    return (I)p;
}
PyObject *hc_free(I p, int s) { in_use[device] -= malloc_usable_size((void *)p); free((void *)p); NONE; }
PyObject *hc_memGetInfo(int s) { return Py_BuildValue("nn", (Py_ssize_t)(TOTAL - in_use[device]), (Py_ssize_t)TOTAL); }
I hc_hostAlloc(size_t n, unsigned flags, int s) { return (I)malloc(n ? n : 1); }
PyObject *hc_freeHost(I p, int s) { free((void *)p); NONE; }
PyObject *hc_memcpyAsync(I to, I from, size_t n, int kind, I stream, int s) {
    if (kind == 1) hostcupy_to_device++, hostcupy_to_device_bytes += n;
    if (kind == 2) hostcupy_to_host++, hostcupy_to_host_bytes += n;
    memmove((void *)to, (void *)from, n);
    NONE;
}
PyObject *hc_memcpy(I to, I from, size_t n, int kind, int s) {
    hostcupy_waits++;
    return hc_memcpyAsync(to, from, n, kind, 0, s);
}
PyObject *hc_memcpyPeer(I to, int d, I from, int e, size_t n, int s) { memmove((void *)to, (void *)from, n); NONE; }
PyObject *hc_memcpyPeerAsync(I to, int d, I from, int e, size_t n, I st, int s) { memmove((void *)to, (void *)from, n); NONE; }
PyObject *hc_memset(I p, int v, size_t n, int s) { memset((void *)p, v, n); NONE; }
PyObject *hc_memsetAsync(I p, int v, size_t n, I stream, int s) { memset((void *)p, v, n); NONE; }
int hc_pointerGetMemoryType(I p, int s) { return 0; }
PyObject *hostcupy_pointer_attributes;  // set from Python: unknown to CUDA, as the host's memory is
PyObject *hc_pointerGetAttributes(I p, int s) { Py_INCREF(hostcupy_pointer_attributes); return hostcupy_pointer_attributes; }

// ---- Streams and events ----
static I handle = 4096;
I hc_streamCreate(int s) { return handle++; }
I hc_streamCreateWithFlags(unsigned f, int s) { return handle++; }
I hc_streamCreateWithPriority(unsigned f, int p, int s) { return handle++; }
PyObject *hc_streamDestroy(I st, int s) { NONE; }
PyObject *hc_streamQuery(I st, int s) { NONE; }
PyObject *hc_streamWaitEvent(I st, I e, int s, void *o) { NONE; }
PyObject *hc_streamSynchronize(I st, int s) { hostcupy_waits++; NONE; }
PyObject *hc_deviceSynchronize(int s) { hostcupy_waits++; NONE; }
int hc_streamIsCapturing(I st, int s) { return 0; }
unsigned hc_streamGetFlags(I st, int s) { return 0; }
int hc_streamGetPriority(I st, int s) { return 0; }
I hc_eventCreate(int s) { return handle++; }
I hc_eventCreateWithFlags(unsigned f, int s) { return handle++; }
PyObject *hc_eventDestroy(I e, int s) { NONE; }
PyObject *hc_eventQuery(I e, int s) { NONE; }
PyObject *hc_eventRecord(I e, I st, int s) { NONE; }
PyObject *hc_eventSynchronize(I e, int s) { hostcupy_waits++; NONE; }
float hc_eventElapsedTime(I a, I b, int s) { return 0; }

// ---- Kernels ----
typedef struct { unsigned x, y, z; } Dim3;
typedef void (*Launcher)(void **parameters, const Dim3 *grid, const Dim3 *block);
I hc_moduleLoadData(PyObject *path, int s) {
    void *library = dlopen(PyBytes_AsString(path), RTLD_NOW | RTLD_LOCAL);
    if (!library) PyErr_Format(PyExc_RuntimeError, "hostcupy: %s", dlerror());
    return (I)library;
}
PyObject *hc_moduleUnload(I m, int s) { NONE; }
I hc_moduleGetFunction(I m, PyObject *name, int s) {
    void *f = dlsym((void *)m, PyUnicode_AsUTF8(name));
    if (!f) PyErr_Format(PyExc_RuntimeError, "hostcupy: %s", dlerror());
    return (I)f;
}
PyObject *hc_funcSetAttribute(I f, int a, int v, int s) { NONE; }
int hc_funcGetAttribute(int a, I f, int s) { return a == 0 ? 1024 : 0; }
int hc_occupancyMaxActiveBlocksPerMultiprocessor(I f, int b, size_t m, int s) { return 2; }
PyObject *hc_launchKernel(I f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, I stream, I parameters, I extra, int s) {
    Dim3 grid = {gx, gy, gz}, block = {bx, by, bz};
    hostcupy_launches++;
    ((Launcher)f)((void **)parameters, &grid, &block);
    NONE;
}

// Threads of a block that wait for each other: each has a stack, and hands over to the next where it waits. A stack is
// entered once and used for one thread after another; setjmp and longjmp change stacks without a system call.
enum { STACK = 1 << 16, MOST = 1024 };
char hostcupy_shared_memory[1 << 18] __attribute__((aligned(16)));
static jmp_buf scheduler, threads[MOST];
static ucontext_t first_entry, back;
enum { RUNS, BLOCK, WARP, DONE };  // what a thread does, or waits for
static int started, current;
static char state[MOST];
static void (*thread_code)(int, void *);
static void *thread_parameters;

void hostcupy_wait_for(int whom) {
    state[current] = whom;
    if (!_setjmp(threads[current])) _longjmp(scheduler, 1);
}
static void serve(void) {
    for (;;) {
        thread_code(current, thread_parameters);
        hostcupy_wait_for(DONE);
    }
}
static void continue_thread(int i) {
    current = i;
    if (_setjmp(scheduler)) return;
    if (i < started) _longjmp(threads[i], 1);
    started++;
    getcontext(&first_entry);
    first_entry.uc_stack.ss_sp = malloc(STACK), first_entry.uc_stack.ss_size = STACK;
    makecontext(&first_entry, serve, 0);
    swapcontext(&back, &first_entry);
}
void hostcupy_run_block(int n, void (*code)(int, void *), void *parameters) {
    thread_code = code, thread_parameters = parameters;
    memset(state, RUNS, n);
    for (int whom = RUNS; whom != DONE;) {
        whom = DONE;
        for (int i = 0; i < n; i++) {
            if (state[i] == RUNS) continue_thread(i);
            if (state[i] == WARP || (state[i] == BLOCK && whom == DONE)) whom = state[i];
        }
        for (int i = 0; i < n; i++)  // a warp goes on before the block does
            if (state[i] == whom && whom != DONE) state[i] = RUNS;
    }
}
