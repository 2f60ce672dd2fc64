//! The machine: processor, cores, memory, GPUs.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

/// The machine as this process sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name, if known.
    pub processor: Option<String>,
    /// Available instruction sets of fast kernels.
    pub features: Vec<&'static str>,
    /// Missing instruction sets of fast kernels.
    pub missing_features: Vec<&'static str>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes of memory that this process may use, if known.
    pub memory_bytes: Option<u64>,
    /// NVIDIA GPUs with the version of their driver.
    pub gpus: Vec<String>,
}

impl Machine {
    /// Returns the machine that this process runs on.
    pub fn examine() -> Self {
        let (present, missing): (Vec<_>, Vec<_>) = features().into_iter().partition(|(_, present)| *present);
        let names = |rows: Vec<(&'static str, bool)>| rows.into_iter().map(|(name, _)| name).collect();
        Self {
            processor: processor(),
            features: names(present),
            missing_features: names(missing),
            cores: cores(),
            memory_bytes: memory_limit(),
            gpus: output("nvidia-smi", &["--query-gpu=name,driver_version", "--format=csv,noheader"])
                .unwrap_or_default(),
        }
    }
}

/// Returns whether this is an x86 processor without VNNI, whose integer kernels saturate sums of two products at 16
/// bits.
pub fn lacks_vnni() -> bool {
    features().contains(&("VNNI", false))
}

/// Returns the cores that this process may use; 1 if unknown.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns the bytes of memory that this process may use: the least of the machine's memory, the limits of its control
/// groups and the limit on its address space. `None` if unknown.
pub fn memory_limit() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = total_memory(&meminfo)?;
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = group_limits(Path::new("/sys/fs/cgroup"), &group);
    let own = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    Some(limits.into_iter().chain(address_space(&own)).fold(total, u64::min))
}

/// The limit on the address space in the text of `/proc/self/limits`.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Limits of the group that `group` (the text of `/proc/self/cgroup`) names and of those around it; files without a
/// number hold "max".
fn group_limits(root: &Path, group: &str) -> Vec<u64> {
    let mut files = vec![root.join("memory/memory.limit_in_bytes"), root.join("memory.max")];
    for line in group.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (base, name) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let relative = Path::new(path.trim_start_matches('/'));
        files.extend(relative.ancestors().map(|folder| base.join(folder).join(name)));
    }
    let number = |path: &std::path::PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    files.iter().filter_map(number).collect()
}

fn processor() -> Option<String> {
    if cfg!(target_os = "macos") {
        return output("sysctl", &["-n", "machdep.cpu.brand_string"])?.into_iter().next();
    }
    if cfg!(target_os = "windows") {
        return std::env::var("PROCESSOR_IDENTIFIER").ok();
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map(|(_, name)| name.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<(&'static str, bool)> {
    vec![
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("FMA", std::is_x86_feature_detected!("fma")),
        ("AVX-512F", std::is_x86_feature_detected!("avx512f")),
        ("AVX-512BW", std::is_x86_feature_detected!("avx512bw")),
        ("VNNI", std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<(&'static str, bool)> {
    vec![
        ("NEON", std::arch::is_aarch64_feature_detected!("neon")),
        ("DotProd", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("I8MM", std::arch::is_aarch64_feature_detected!("i8mm")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

/// Returns the lines that a program prints, `None` when it cannot be run, fails or prints nothing.
pub fn output(program: &str, arguments: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    (output.status.success() && !lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_total_memory() {
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       24 kB\n"), Some(24 * 1024));
        assert_eq!(total_memory("nothing"), None);
    }

    #[test]
    fn reads_the_limit_on_the_address_space() {
        let limits =
            |soft: &str| format!("Max cpu time  unlimited  unlimited  seconds\nMax address space  {soft}  9  bytes\n");
        assert_eq!(address_space(&limits("8192000000")), Some(8_192_000_000));
        assert_eq!(address_space(&limits("unlimited")), None);
    }

    #[test]
    fn every_group_around_the_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("memory.max", "900"),
            ("a/memory.max", "500"),
            ("a/b/memory.max", "max"),
            ("memory/x/memory.limit_in_bytes", "700"),
            ("other/memory.max", "1"),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }
        let cases = [("0::/a/b\n", 500), ("0::/\n", 900), ("12:cpu,cpuacct:/a\n3:memory:/x/y\n", 700), ("", 900)];
        for (group, expected) in cases {
            assert_eq!(group_limits(root.path(), group).into_iter().min(), Some(expected), "{group:?}");
        }
    }
}
