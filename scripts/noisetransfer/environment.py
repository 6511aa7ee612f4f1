"""Environment variables that jobs run with. Imports nothing."""

VARIABLES = {
    # glibc returns every large tensor to the system and takes it anew: a fifth of the time on a CPU
    "MALLOC_MMAP_THRESHOLD_": str(10**9),
    "MALLOC_TRIM_THRESHOLD_": str(2 * 10**9),
    # threads that wait must sleep: spinning on a shared machine is 20 times as slow
    "OMP_WAIT_POLICY": "passive",
}
