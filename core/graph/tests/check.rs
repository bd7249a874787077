//! Sound volfiles: what becomes of GlusterFS's own, of overrides, and how long it takes.

mod common;

use brickwork_graph::check::{Checked, EXIT_CONFIG, Overrides, check, fuzz_volfile};
use brickwork_graph::diagnostic::{Code, Look, Severity};
use brickwork_graph::registry::Registry;
use brickwork_graph::volfile::Source;
use std::path::PathBuf;
use std::time::Duration;

fn fixtures(part: &str) -> Vec<PathBuf> {
    let mut out = common::files("tests/data/gluster/fixa", "vol");
    out.extend(common::files("tests/data/gluster/fixb", "vol"));
    out.retain(|path| path.to_string_lossy().contains(part));
    assert!(!out.is_empty());
    out
}

fn run(text: &str, types: &Registry, overrides: &Overrides) -> Checked {
    check(Source::new("test.vol", text), types, overrides)
}

fn names(checked: &Checked) -> Vec<&str> {
    let plan = checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(Look::default())));
    plan.volumes.iter().map(|volume| volume.name.as_str()).collect()
}

fn codes(checked: &Checked) -> Vec<Code> {
    checked.findings.iter().map(|finding| finding.code).collect()
}

fn errors(checked: &Checked) -> Vec<&str> {
    let list = checked.findings.iter().filter(|f| f.severity == Severity::Error);
    list.map(|finding| finding.message.as_str()).collect()
}

#[test]
fn every_volfile_of_gluster_becomes_a_plan_when_all_types_are_there() {
    for path in fixtures("") {
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = run(&text, &common::all(), &Overrides::default());
        assert_eq!(errors(&checked), Vec::<&str>::new(), "{}", path.display());
        assert!(checked.plan.is_some());
        assert_eq!(checked.exit_code(), 0);
    }
}

#[test]
fn a_brick_of_gluster_is_built_without_locks_and_network_when_they_are_skipped() {
    for path in fixtures("storage1") {
        let text = std::fs::read_to_string(&path).unwrap();
        let brick = text.split("auth-path ").nth(1).unwrap().lines().next().unwrap();
        let overrides = Overrides {
            volume_name: Some(brick.to_owned()),
            skip_types: vec!["features/locks".to_owned()],
            ..Overrides::default()
        };
        let checked = run(&text, &common::local(), &overrides);
        let volume = path.file_name().unwrap().to_string_lossy()[..4].to_owned();
        assert_eq!(names(&checked), [format!("{volume}-posix").as_str(), brick]);
        let plan = checked.plan.as_ref().unwrap();
        assert_eq!(plan.root, 1);
        assert_eq!(plan.volumes[1].children, [0]);
        assert_eq!(plan.volumes[0].options.get("directory"), Some(brick));
        // A notice for each type that is left out, one each for the options of the two that stay.
        assert!(codes(&checked).iter().all(|code| *code == Code::WithoutEffect));
        assert_eq!(codes(&checked).len(), 17);
    }
}

#[test]
fn without_skipping_the_types_that_are_not_built_yet_are_named() {
    let text = std::fs::read_to_string(&fixtures("storage1")[0]).unwrap();
    let checked = run(&text, &common::local(), &Overrides::default());
    assert_eq!(
        errors(&checked),
        ["`features/locks` is not in this binary yet", "`protocol/server` is not in this binary yet"]
    );
    assert_eq!(checked.exit_code(), EXIT_CONFIG);
    assert!(checked.plan.is_none());
}

const STACK: &str = "volume disk type storage/posix option directory /b end-volume
volume cache type performance/io-cache option cache-size 1GB subvolumes disk end-volume
volume top type debug/io-stats option latency-measurement off subvolumes cache end-volume
volume cache-top type performance/md-cache subvolumes top end-volume
";

#[test]
fn layers_without_effect_are_left_out_also_at_the_top() {
    let checked = run(STACK, &common::local(), &Overrides::default());
    assert_eq!(names(&checked), ["disk", "top"]);
    assert_eq!(checked.plan.unwrap().root, 1);
}

#[test]
fn a_layer_that_is_left_out_may_be_told_to_pass_everything_through() {
    let text = STACK.replace("cache-size 1GB", "pass-through on");
    assert_eq!(names(&run(&text, &common::local(), &Overrides::default())), ["disk", "top"]);
}

fn with_option(option: &str) -> Checked {
    let overrides = Overrides { xlator_options: vec![option.to_owned()], ..Overrides::default() };
    run(STACK, &common::local(), &overrides)
}

#[test]
fn an_override_takes_the_place_of_the_files_value() {
    let checked = with_option("t?p.latency-measurement=on");
    let plan = checked.plan.unwrap();
    assert_eq!(plan.volumes[1].options.get("latency-measurement"), Some("on"));
}

#[test]
fn an_override_reaches_every_volume_that_has_the_option() {
    let checked = with_option("*.latency-measurement=on");
    assert_eq!(checked.plan.unwrap().volumes[1].options.get("latency-measurement"), Some("on"));
}

#[test]
fn an_override_is_checked_like_the_file() {
    assert_eq!(
        errors(&with_option("top.latency-measurement=maybe")),
        ["`maybe` is neither `on` nor `off` in option `latency-measurement`"]
    );
    assert_eq!(errors(&with_option("top.latency=on")), ["unknown option `latency` for `debug/io-stats`"]);
    assert_eq!(errors(&with_option("top")), ["an override without the shape `PATTERN.KEY=VALUE`"]);
    let unmatched = with_option("tip.latency-measurement=on");
    assert_eq!(unmatched.exit_code(), 0);
    assert!(codes(&unmatched).contains(&Code::CommandLine));
}

#[test]
fn dots_in_names_and_keys_of_an_override_are_told_apart() {
    let text = "volume a.b type storage/posix option directory /b end-volume
volume s.t type protocol/server option auth.addr./b.c.allow * subvolumes a.b end-volume\n";
    let overrides = Overrides {
        xlator_options: vec![
            "a.b.reserve=2%".to_owned(),
            "s.t.auth.addr./b.c.allow=10.0.0.1".to_owned(),
            "*.listen-port=24010".to_owned(),
        ],
        ..Overrides::default()
    };
    let plan = run(text, &common::all(), &overrides).plan.unwrap();
    assert_eq!(plan.volumes[0].options.get("reserve"), Some("2%"));
    assert_eq!(plan.volumes[1].options.get("auth.addr./b.c.allow"), Some("10.0.0.1"));
    assert_eq!(plan.volumes[1].options.get("listen-port"), Some("24010"));
}

#[test]
fn an_alias_is_planned_under_the_name_of_the_table() {
    let text = "volume disk type storage/posix option directory /b end-volume
volume e type debug/error-gen option failure-rate 5 subvolumes disk end-volume\n";
    let plan = run(text, &common::local(), &Overrides::default()).plan.unwrap();
    assert_eq!(plan.volumes[1].options.get("failure"), Some("5"));
}

#[test]
fn lock_migration_is_accepted_switched_on_and_off() {
    for value in ["on", "off"] {
        let text = format!(
            "volume c type protocol/client option remote-subvolume x end-volume
volume d type cluster/distribute option lock-migration {value} subvolumes c end-volume\n"
        );
        let checked = run(&text, &common::all(), &Overrides::default());
        assert_eq!(names(&checked), ["c", "d"]);
    }
}

fn chain(count: usize) -> String {
    let mut text = String::from("volume v0\n    type storage/posix\n    option directory /b\nend-volume\n");
    for i in 1..count {
        text += &format!(
            "\nvolume v{i}\n    type debug/io-stats\n    option latency-measurement on\n    option log-level INFO\n    subvolumes v{}\nend-volume\n",
            i - 1
        );
    }
    text
}

#[test]
fn two_hundred_xlators_are_checked_in_ten_milliseconds() {
    let text = chain(200);
    let types = common::all();
    // The best of some runs: the machine does other things too. Without optimization everything takes longer.
    let best = (0..20).map(|_| run(&text, &types, &Overrides::default()).summary.elapsed.unwrap()).min().unwrap();
    println!("200 xlators: {best:?}");
    let factor = if cfg!(debug_assertions) { 20 } else { 1 };
    assert!(best < Duration::from_millis(10) * factor, "{best:?}");
}

#[test]
fn a_chain_of_the_greatest_length_is_checked_without_running_out_of_stack() {
    let text = chain(brickwork_graph::volfile::VOLUMES_MAX);
    let checked = run(&text, &common::all(), &Overrides::default());
    assert_eq!(checked.plan.unwrap().volumes.len(), brickwork_graph::volfile::VOLUMES_MAX);
}

#[test]
fn a_chain_of_the_greatest_length_upside_down_is_refused_in_time() {
    let text = chain(2000);
    let upside_down: Vec<&str> = text.split("\n\n").collect();
    let text: String = upside_down.iter().rev().map(|volume| format!("{volume}\n")).collect();
    let checked = run(&text, &common::all(), &Overrides::default());
    assert!(checked.findings.dropped() > 1000);
    assert!(checked.plan.is_none());
    assert!(checked.summary.elapsed.unwrap() < Duration::from_secs(20));
}

#[test]
fn a_file_full_of_mistakes_is_checked_in_time() {
    let mut text = String::new();
    for i in 0..4000 {
        let options: String = (0..20).map(|o| format!("option latency-{o}-mesurement-{i} on ")).collect();
        let names: String = (0..20).map(|n| format!("a-rather-long-name-of-a-volume-{}-{n} ", i * 7)).collect();
        text += &format!("volume a-rather-long-name-{i} type debug/io-stats {options} subvolumes {names} end-volume\n");
    }
    text.truncate(brickwork_graph::volfile::FILE_BYTES_MAX);
    let checked = run(&text, &common::all(), &Overrides::default());
    println!("{} bytes, {} errors: {:?}", text.len(), checked.findings.error_count(), checked.summary.elapsed);
    assert!(checked.findings.is_full_of_errors());
    assert!(checked.summary.elapsed.unwrap() < Duration::from_secs(30));
}

#[test]
fn mutated_volfiles_are_checked_without_a_panic() {
    let mut seeds: Vec<Vec<u8>> = fixtures("").iter().map(|path| std::fs::read(path).unwrap()).collect();
    seeds.extend(common::files("tests/ui", "vol").iter().map(|path| std::fs::read(path).unwrap()));
    let types = common::all();
    let rounds: u64 = match std::env::var("BRICKWORK_ROUNDS").as_deref() {
        Ok("full") => 200,
        _ => 4,
    };
    let seed: u64 = std::env::var("BRICKWORK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed);
    println!("BRICKWORK_SEED={seed}, {rounds} rounds over {} files", seeds.len());
    let mut random = Random(seed);
    for _ in 0..rounds {
        for bytes in &seeds {
            let mut bytes = bytes.clone();
            for _ in 0..=random.below(6) {
                mutate(&mut bytes, &seeds, &mut random);
            }
            fuzz_volfile(&bytes, &types);
        }
    }
}

/// xorshift64*: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const PIECES: [&[u8]; 14] = [
        b"\"",
        b"\\",
        b"`",
        b"#",
        b"\n",
        b" volume ",
        b" end-volume ",
        b" option ",
        b" subvolumes ",
        b" type ",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b" option password hunter2 ",
    ];
    let at = random.below(bytes.len() + 1);
    match random.below(4) {
        0 => {
            let piece = PIECES[random.below(PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        1 => {
            let end = (at + random.below(40)).min(bytes.len());
            bytes.drain(at..end);
        }
        2 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            let to = (from + random.below(200)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.below(256) as u8;
            }
        }
    }
}
