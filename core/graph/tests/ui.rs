//! Broken volfiles and what is said about them: `tests/ui/NAME.vol` and `NAME.stderr` of the repository.
//!
//! `BLESS=1 cargo test -p brickwork-graph --test ui` writes what is said now; read the difference before it is
//! committed. A file may begin with `# args: …`, the overrides of its command line.

mod common;

use brickwork_graph::check::{Checked, Overrides, check};
use brickwork_graph::diagnostic::Look;
use brickwork_graph::volfile::Source;
use std::path::Path;

const FOLDER: &str = "tests/ui";

fn overrides(text: &str) -> Overrides {
    let mut out = Overrides::default();
    let first = text.lines().next().unwrap_or("");
    let Some(args) = first.strip_prefix("# args: ") else {
        return out;
    };
    let mut words = args.split(' ');
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag {
            "--xlator-option" => out.xlator_options.push(value.to_owned()),
            "--skip-type" => out.skip_types.push(value.to_owned()),
            "--volume-name" => out.volume_name = Some(value.to_owned()),
            other => panic!("no such flag: {other}"),
        }
    }
    out
}

fn check_file(path: &Path) -> Checked {
    let bytes = std::fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy();
    let overrides = overrides(&String::from_utf8_lossy(&bytes));
    let mut checked = check(Source::from_bytes(name, &bytes), &common::all(), &overrides);
    checked.summary.elapsed = None;
    checked
}

#[test]
fn each_broken_volfile_gets_its_golden_message() {
    let bless = std::env::var_os("BLESS").is_some();
    let files = common::files(FOLDER, "vol");
    assert!(files.len() >= 40, "{} cases", files.len());
    let mut wrong = Vec::new();
    for path in &files {
        let checked = check_file(path);
        let said = checked.render(Look::default());
        let golden = path.with_extension("stderr");
        if bless {
            std::fs::write(&golden, &said).unwrap();
        }
        let right = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(!said.is_empty(), "{}: nothing was found", path.display());
        if said != right {
            wrong.push(format!("{}: said\n{said}\ninstead of\n{right}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let volfiles = files.len();
    assert_eq!(common::files(FOLDER, "stderr").len(), volfiles, "a golden message without its volfile");
}

#[test]
fn the_same_file_gives_the_same_message_every_time() {
    for path in common::files(FOLDER, "vol") {
        let first = check_file(&path).render(Look::default());
        assert_eq!(check_file(&path).render(Look::default()), first, "{}", path.display());
    }
}

#[test]
fn six_of_ten_findings_come_with_a_suggestion() {
    let (mut all, mut with_fix, mut with_help) = (0, 0, 0);
    for path in common::files(FOLDER, "vol") {
        for finding in &check_file(&path).findings {
            if finding.severity == brickwork_graph::diagnostic::Severity::Notice {
                continue;
            }
            all += 1;
            with_help += usize::from(finding.help.is_some());
            with_fix += usize::from(finding.help.as_ref().is_some_and(|help| help.fix.is_some()));
        }
    }
    println!("{all} findings, {with_help} with help, {with_fix} of them as an edit");
    assert!(with_fix * 10 >= all * 6, "{with_fix} of {all} as an edit");
    assert!(with_help * 10 >= all * 9, "{with_help} of {all} with help");
}

#[test]
fn every_code_of_a_volfile_has_a_case() {
    let mut seen: Vec<_> = common::files(FOLDER, "vol")
        .iter()
        .flat_map(|path| check_file(path).findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>())
        .collect();
    seen.sort_unstable();
    seen.dedup();
    let missing: Vec<_> = brickwork_graph::diagnostic::Code::ALL
        .iter()
        .map(|code| code.as_str())
        // The loader of plugins finds V0016, no volfile does.
        .filter(|code| *code != "V0016" && !seen.contains(code))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn applying_a_fix_removes_its_finding() {
    for path in common::files(FOLDER, "vol") {
        let checked = check_file(&path);
        let Some(text) = checked.fixed_text() else { continue };
        let name = path.file_name().unwrap().to_string_lossy();
        let again = check(Source::new(name, text.clone()), &common::all(), &overrides(&text));
        let fixes = |checked: &Checked| checked.findings.applicable().count();
        assert!(
            fixes(&again) < fixes(&checked),
            "{}: as many suggestions as before in\n{text}\n{}",
            path.display(),
            again.render(Look::default())
        );
    }
}

#[test]
fn no_output_shows_a_secret() {
    for path in common::files(FOLDER, "vol") {
        let checked = check_file(&path);
        let json = checked.to_json().to_string();
        for text in [checked.render(Look::default()), json] {
            assert!(!text.contains("hunter2"), "{}: {text}", path.display());
        }
    }
}
