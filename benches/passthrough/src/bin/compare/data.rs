//! Reading and writing one file, by fio.
//!
//! Every read of a job asks for another block, so no request is answered by the mount's own page cache: fio drops
//! that first, while the file stays hot in the cache of the disk below. What is direct goes down to the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::Command;

use serde_json::Value;

use crate::target::Target;

const MIB: u64 = 1 << 20;
const FILE: &str = "data";

/// The size of the file that all jobs share.
pub fn file_bytes(quick: bool) -> u64 {
    if quick { 32 * MIB } else { 128 * MIB }
}

/// Writes the file of `bytes` bytes that the jobs read and overwrite.
///
/// # Errors
/// Those of writing it.
pub fn prepare(target: &Target, bytes: u64) -> io::Result<()> {
    let mut file = File::create(target.directory.join(FILE))?;
    // Not zeros: nothing below may find a shortcut for them.
    let block: Vec<u8> = (0..MIB).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    for _ in 0..bytes / MIB {
        file.write_all(&block)?;
    }
    file.sync_all()
}

/// One run of fio.
pub struct Job {
    pattern: &'static str,
    block: u64,
    in_flight: u32,
    direct: bool,
    bytes: u64,
}

impl Job {
    /// All jobs, in the order of the table.
    pub fn all(quick: bool) -> Vec<Self> {
        let mut jobs = Vec::new();
        for direct in [false, true] {
            for pattern in ["randread", "randwrite"] {
                for in_flight in [1, 16] {
                    jobs.push(Self { pattern, block: 4096, in_flight, direct, bytes: random_bytes(direct, in_flight) });
                }
            }
            for pattern in ["read", "write"] {
                jobs.push(Self { pattern, block: MIB, in_flight: 1, direct, bytes: 128 * MIB });
            }
        }
        if quick {
            jobs.iter_mut().for_each(|job| job.bytes /= 4);
        }
        jobs
    }

    /// The name of its row.
    pub fn title(&self) -> String {
        let size = if self.block == MIB { "1 MiB" } else { "4 KiB" };
        let cached = if self.direct { "direct" } else { "buffered" };
        format!("{size} {} {cached} x{}", self.pattern, self.in_flight)
    }

    /// What its rate counts.
    pub fn unit(&self) -> &'static str {
        if self.block == MIB { "MiB/s" } else { "ops/s" }
    }

    /// Runs it; the rate in its unit.
    ///
    /// # Errors
    /// When fio is missing, fails, or reports what is no rate.
    pub fn run(&self, target: &Target) -> io::Result<f64> {
        if !self.writes() && !self.direct {
            warm(target)?;
        }
        let output = self.command(target).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("fio: {}", String::from_utf8_lossy(&output.stderr))));
        }
        // What is dirty now must not slow down the next job.
        OpenOptions::new().write(true).open(target.directory.join(FILE))?.sync_all()?;
        self.rate(&output.stdout)
    }

    fn writes(&self) -> bool {
        self.pattern.ends_with("write")
    }

    /// Direct requests stand in one asynchronous queue, buffered ones in as many threads: so either can be in flight.
    fn command(&self, target: &Target) -> Command {
        let (engine, depth, threads) = match (self.in_flight, self.direct) {
            (1, _) => ("psync", 1, 1),
            (depth, true) => ("libaio", depth, 1),
            (threads, false) => ("psync", 1, threads),
        };
        let share = self.bytes / u64::from(threads);
        let mut fio = Command::new("fio");
        fio.args(["--name=job", "--thread", "--group_reporting", "--randrepeat=1", "--output-format=json"])
            .arg(format!("--filename={}", target.directory.join(FILE).display()))
            .arg(format!("--rw={}", self.pattern))
            .arg(format!("--bs={}", self.block))
            .arg(format!("--ioengine={engine}"))
            .arg(format!("--iodepth={depth}"))
            .arg(format!("--numjobs={threads}"))
            .arg(format!("--direct={}", u8::from(self.direct)))
            .arg(format!("--invalidate={}", u8::from(target.fuse)))
            .arg(format!("--size={share}"))
            .arg(format!("--offset_increment={share}"));
        fio
    }

    fn rate(&self, report: &[u8]) -> io::Result<f64> {
        let report: Value = serde_json::from_slice(report)?;
        let side = &report["jobs"][0][if self.writes() { "write" } else { "read" }];
        let number = |key: &str| side[key].as_f64().ok_or_else(|| io::Error::other(format!("fio reports no {key}")));
        let (bytes, runtime_ms) = (number("io_bytes")?, number("runtime")?.max(1.0));
        if bytes as u64 != self.bytes {
            return Err(io::Error::other(format!("fio moved {bytes} of {} bytes", self.bytes)));
        }
        let unit = if self.block == MIB { MIB as f64 } else { self.block as f64 };
        Ok(bytes / unit / (runtime_ms / 1000.0))
    }
}

/// Direct requests wait for the disk, so fewer of them fill the same time.
fn random_bytes(direct: bool, in_flight: u32) -> u64 {
    match (direct, in_flight) {
        (true, 1) => 32 * MIB,
        (true, _) => 64 * MIB,
        (false, _) => 128 * MIB,
    }
}

/// Brings the whole file into the page cache of the disk.
fn warm(target: &Target) -> io::Result<()> {
    let mut file = File::open(target.directory.join(FILE))?;
    let mut block = vec![0; MIB as usize];
    while file.read(&mut block)? > 0 {}
    Ok(())
}
