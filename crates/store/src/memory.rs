//! Free memory.

/// Free bytes of memory, if the system tells: the least of what the machine, the control group and the limits of this process
/// allow.
pub(crate) fn free_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    // proc(5), proc_meminfo(5), proc_pid_limits(5), proc_pid_statm(5); Control Group v2.
    let of_machine = || {
        let text = read("/proc/meminfo")?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
        number(line.trim().strip_suffix("kB")?)?.checked_mul(1 << 10)
    };
    let of_group = || {
        let most = number(&read("/sys/fs/cgroup/memory.max")?)?;
        Some(most.saturating_sub(number(&read("/sys/fs/cgroup/memory.current")?)?))
    };
    let of_process = || {
        let text = read("/proc/self/limits")?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max address space"))?;
        let most = number(line.split_whitespace().next()?)?;
        let pages = number(read("/proc/self/statm")?.split(' ').next()?)?;
        Some(most.saturating_sub(pages.saturating_mul(4 << 10)))
    };
    [of_machine(), of_group(), of_process()]
        .into_iter()
        .flatten()
        .min()
}
